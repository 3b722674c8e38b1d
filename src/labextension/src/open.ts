/** Opens the notebook of the page's address as soon as JupyterLab stands. */

import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { PageConfig } from '@jupyterlab/coreutils';

export const openPlugin: JupyterFrontEndPlugin<void> = {
  id: '@afportal/session:open',
  description: 'Opens the notebook of the address at once.',
  autoStart: true,
  activate: (app: JupyterFrontEnd) => {
    // JupyterLab's own plugin comes to it only when the workspace is saved, 750 ms and a request
    // later (4.6), and finds it open then. It also tells what cannot be opened.
    const path = PageConfig.getOption('treePath');
    if (path.endsWith('.ipynb')) {
      void app.restored
        .then(() => app.commands.execute('docmanager:open', { path }))
        .catch(() => undefined);
    }
  }
};
