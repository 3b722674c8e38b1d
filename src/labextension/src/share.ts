/** 'Copy Share Link…' in the file browser, and the panel of one's links. */

import {
  ILayoutRestorer,
  type JupyterFrontEnd,
  type JupyterFrontEndPlugin
} from '@jupyterlab/application';
import { Dialog, Notification, showDialog } from '@jupyterlab/apputils';
import { IFileBrowserFactory } from '@jupyterlab/filebrowser';
import { LabIcon } from '@jupyterlab/ui-components';
import { Poll } from '@lumino/polling';
import { LiveHelpClient } from './live_help_client';
import { LiveHelpForm } from './live_help_form';
import { ShareClient } from './share_client';
import { MadeLink, ShareForm } from './share_form';
import { SharePanel } from './share_panel';
import { content, type IShare } from './share_words';
import { clock } from './words';

const SHARE = 'afportal:share';
const SHOW = 'afportal:show-shares';
const HELP = 'afportal:let-somebody-in';
// While the panel is looked at; nothing is asked while it is not.
const LOOK_EVERY_MS = 10_000;

/** Three points that are joined. */
const icon = new LabIcon({
  name: 'afportal:share',
  svgstr:
    '<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24">' +
    '<path class="jp-icon3" fill="#616161" d="M18 16a3 3 0 0 0-2 .8l-7.1-4.2a3 3 0 0 0 0-1.2L16 7.2a3 3 0 1 0-1-2.2' +
    'l.1.7L8 9.8a3 3 0 1 0 0 4.4l7.1 4.2-.1.6a3 3 0 1 0 3-3z"/></svg>'
});

function words(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

class SharePlugin {
  constructor(
    private readonly app: JupyterFrontEnd,
    private readonly browsers: IFileBrowserFactory
  ) {
    this.client = new ShareClient(app.serviceManager.serverSettings);
    this.help = new LiveHelpClient(app.serviceManager.serverSettings);
    this.panel = new SharePanel(
      { refresh: share => this.refresh(share), revoke: share => this.revoke(share) },
      { letIn: () => this.letIn(), end: what => this.end(what) },
      () => void this.poll.refresh()
    );
    this.panel.title.icon = icon;
    app.shell.add(this.panel, 'right', { rank: 60 });
    this.poll = new Poll({
      auto: false,
      name: 'afportal:shares',
      factory: () => this.look(),
      frequency: { interval: LOOK_EVERY_MS, backoff: true, max: 60_000 },
      standby: () => (this.panel.isVisible ? 'when-hidden' : true)
    });
    this.addCommands();
  }

  /** Offer it, where this server's hub has share links at all. */
  async begin(): Promise<void> {
    await this.look();
    for (const selector of ['[data-file-type="notebook"]', '[data-isdir="true"]']) {
      this.app.contextMenu.addItem({
        command: SHARE,
        selector: `.jp-DirListing-item${selector}`,
        rank: 12
      });
    }
    await this.poll.start();
  }

  private addCommands(): void {
    const { commands, shell } = this.app;
    commands.addCommand(SHARE, {
      label: 'Copy Share Link…',
      caption: 'Give colleagues a copy, with what it runs in',
      icon,
      isEnabled: () => this.selected().length === 1,
      execute: () => this.share()
    });
    commands.addCommand(SHOW, {
      label: 'Show Share Links',
      execute: () => shell.activateById(this.panel.id)
    });
    commands.addCommand(HELP, {
      label: 'Let Somebody In…',
      caption: 'Live help: they work in this server as you',
      isVisible: () => this.hasHelp,
      execute: () => this.letIn()
    });
  }

  private selected(): string[] {
    const browser = this.browsers.tracker.currentWidget;
    const contents = this.app.serviceManager.contents;
    return browser ? [...browser.selectedItems()].map(item => contents.localPath(item.path)) : [];
  }

  private async share(): Promise<void> {
    const [path] = this.selected();
    if (!path) {
      return;
    }
    try {
      const asked = await showDialog({
        title: `Share ${path}`,
        body: new ShareForm(await this.client.list()),
        buttons: [Dialog.cancelButton(), Dialog.okButton({ label: 'Make link' })]
      });
      if (!asked.button.accept || !asked.value) {
        return;
      }
      const made = await this.client.make(path, asked.value.lifetime_min, asked.value.audience);
      void this.poll.refresh();
      await showDialog({
        title: 'Share link',
        body: new MadeLink(
          made.url,
          `For ${made.audience}: ${content(made)}.`,
          'Who opened it stands in the panel of share links.'
        ),
        buttons: [Dialog.okButton({ label: 'Done' })]
      });
    } catch (error) {
      Notification.error(`No share link: ${words(error)}`, { autoClose: false });
    }
  }

  private async look(): Promise<void> {
    const [shares, help] = await Promise.all([this.client.list(), this.help.get()]);
    this.hasHelp = !!help;
    this.panel.showLinks(shares.links);
    this.panel.help.show(help);
  }

  private async letIn(): Promise<void> {
    try {
      const help = await this.help.get();
      if (!help) {
        throw new Error('only the owner of this server lets others in, and only where its hub allows it');
      }
      const asked = await showDialog({
        title: 'Let somebody into this server',
        body: new LiveHelpForm(help),
        buttons: [Dialog.cancelButton(), Dialog.warnButton({ label: 'Make link' })]
      });
      if (!asked.button.accept || !asked.value) {
        return;
      }
      const made = await this.help.make(asked.value);
      void this.poll.refresh();
      await showDialog({
        title: 'Link into this server',
        body: new MadeLink(
          made.url,
          `For one person, until ${clock(made.ends_s, Date.now() / 1000)}. Give it to nobody else.`,
          'Who has come in stands in the panel of share links, and is put out there.'
        ),
        buttons: [Dialog.okButton({ label: 'Done' })]
      });
    } catch (error) {
      Notification.error(`Nobody is let in: ${words(error)}`, { autoClose: false });
    }
  }

  private async end(what: string): Promise<void> {
    await this.done(async () => {
      await this.help.end(what);
      return 'It is ended: who was in is out within half a minute.';
    });
  }

  private async refresh(share: IShare): Promise<void> {
    await this.done(async () => {
      const renewed = await this.client.refresh(share);
      return renewed.version === share.version
        ? `${share.name} has not changed: the link is good for longer.`
        : `${share.name} is at version ${renewed.version} now.`;
    });
  }

  private async revoke(share: IShare): Promise<void> {
    await this.done(async () => {
      await this.client.revoke(share);
      return `The link to ${share.name} is revoked.`;
    });
  }

  private async done(deed: () => Promise<string>): Promise<void> {
    try {
      this.panel.tell(await deed());
    } catch (error) {
      this.panel.tell(words(error));
    }
    await this.look().catch(error => console.warn(words(error)));
  }

  /** What is shown at the side. */
  readonly panel: SharePanel;
  private readonly client: ShareClient;
  private readonly help: LiveHelpClient;
  private hasHelp = false;
  private readonly poll: Poll;
}

export const sharePlugin: JupyterFrontEndPlugin<void> = {
  id: '@afportal/session:share',
  description: 'Makes links by which colleagues get a copy of a notebook or folder.',
  autoStart: true,
  requires: [IFileBrowserFactory],
  optional: [ILayoutRestorer],
  activate: (
    app: JupyterFrontEnd,
    browsers: IFileBrowserFactory,
    restorer: ILayoutRestorer | null
  ) => {
    const share = new SharePlugin(app, browsers);
    restorer?.add(share.panel, 'afportal-shares');
    // Where there are no share links, nothing offers them.
    void app.restored.then(() => share.begin()).catch(error => console.warn(words(error)));
  }
};
