/** What is said before somebody is let in. */

import type { Dialog } from '@jupyterlab/apputils';
import { Widget } from '@lumino/widgets';
import { element } from './element';
import { helpLifetimes, WARNING, type ILiveHelp } from './live_help_words';

export class LiveHelpForm extends Widget implements Dialog.IBodyWidget<number> {
  constructor(help: ILiveHelp) {
    super();
    this.addClass('af-ShareForm');
    this.lifetime = element('select', 'af-Help-lifetime');
    for (const { label, minutes } of helpLifetimes(help)) {
      this.lifetime.add(new Option(label, String(minutes)));
    }
    this.node.append(
      element('ul', 'af-Help-warning', ...WARNING.map(line => element('li', '', line))),
      element('label', '', 'For', this.lifetime)
    );
  }

  /** Minutes. */
  getValue(): number {
    return Number(this.lifetime.value);
  }

  private readonly lifetime: HTMLSelectElement;
}
