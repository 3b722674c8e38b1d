/** A session's limits inside JupyterLab: a panel, pop-ups before they strike, what can be done. */

import {
  ILayoutRestorer,
  type JupyterFrontEnd,
  type JupyterFrontEndPlugin
} from '@jupyterlab/application';
import { InputDialog, Notification } from '@jupyterlab/apputils';
import { PageConfig } from '@jupyterlab/coreutils';
import { IStatusBar } from '@jupyterlab/statusbar';
import { LabIcon } from '@jupyterlab/ui-components';
import { Poll } from '@lumino/polling';
import { SCHEMA, SessionClient } from './client';
import { openPlugin } from './open';
import { SessionPanel } from './panel';
import { sharePlugin } from './share';
import { TimeLeft } from './time_left';
import { Warnings, type IDeed } from './warnings';
import { clock, offers, type ILimits, type ISession, type IWarning } from './words';

const SAVE_ALL = 'docmanager:save-all';
const SHOW = 'afportal:show-session';
const MORE_TIME = 'afportal:more-time';
const CONTINUE = 'afportal:continue';
// While the panel is looked at; nothing is asked while it is not.
const LOOK_EVERY_MS = 5_000;
const SHOWN_MS = 5_000;

/** A clock. */
const icon = new LabIcon({
  name: 'afportal:session',
  svgstr:
    '<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24">' +
    '<path class="jp-icon3" fill="#616161" d="M12 2a10 10 0 1 0 0 20 10 10 0 0 0 0-20zm0 18a8 8 0 1 1 0-16' +
    ' 8 8 0 0 1 0 16zm.8-13h-1.6v6l5.2 3.1.8-1.3-4.4-2.6z"/></svg>'
});

function words(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

class SessionPlugin {
  constructor(
    private readonly app: JupyterFrontEnd,
    statusBar: IStatusBar | null
  ) {
    this.client = new SessionClient(app.serviceManager.serverSettings);
    this.panel = new SessionPanel(
      session => this.deeds(session),
      () => void this.poll.refresh()
    );
    this.panel.title.icon = icon;
    this.timeLeft = new TimeLeft(() => void app.commands.execute(SHOW));
    this.warnings = new Warnings((warning, limits) => this.deedsAgainst(warning, limits));
    this.addCommands();
    app.shell.add(this.panel, 'right', { rank: 50 });
    statusBar?.registerStatusItem('afportal:time-left', {
      item: this.timeLeft,
      align: 'right',
      rank: 10
    });
    this.poll = new Poll({
      auto: false,
      name: 'afportal:session',
      factory: () => this.look(),
      frequency: { interval: LOOK_EVERY_MS, backoff: true, max: 60_000 },
      standby: () => (this.panel.isVisible ? 'when-hidden' : true)
    });
  }

  /** Listen to what the server tells, and look once at what it told before. */
  async begin(): Promise<void> {
    this.app.serviceManager.events.stream.connect((_, event) => {
      if (event.schema_id === SCHEMA) {
        this.take(event as unknown as ILimits);
      }
    });
    // What was told while this page slept, or had no connection, is looked up.
    const look = () => this.look().catch(error => console.warn(words(error)));
    document.addEventListener('visibilitychange', () => {
      if (document.visibilityState === 'visible') {
        void look();
      }
    });
    // A server that does not answer now may later.
    await look();
    await this.poll.start();
  }

  private async look(): Promise<void> {
    try {
      this.session = await this.client.get();
    } catch (error) {
      this.panel.showTrouble(`The server does not answer: ${words(error)}`);
      throw error;
    }
    this.take(this.session);
  }

  private take(limits: ILimits): void {
    if (this.session) {
      const { time, memory, warnings } = limits;
      this.session = { ...this.session, time, memory, warnings };
      this.panel.showSession(this.session);
    }
    this.timeLeft.updateLimits(limits);
    this.warnings.update(limits);
  }

  private addCommands(): void {
    const { commands, shell } = this.app;
    commands.addCommand(SHOW, {
      label: 'Show Session',
      execute: () => shell.activateById(this.panel.id)
    });
    commands.addCommand(MORE_TIME, {
      label: 'More Time for This Server…',
      isEnabled: () => !!this.session && offers(this.session).length > 0,
      execute: () => this.moreTime()
    });
    commands.addCommand(CONTINUE, {
      label: 'Continue in a New Job…',
      isEnabled: () => !!this.session?.continue_path,
      execute: () => this.goOn()
    });
  }

  private deed(label: string, caption: string, command: string): IDeed {
    return { label, caption, run: () => void this.app.commands.execute(command) };
  }

  private deeds(limits: ILimits): IDeed[] {
    const more = this.deed('More time…', 'Let this server run longer', MORE_TIME);
    return [
      this.deed('Save all', 'Save every open document', SAVE_ALL),
      ...(offers(limits).length ? [more] : []),
      this.deed(
        'New job…',
        'Continue in a new job: same choices and files; kernels start anew',
        CONTINUE
      )
    ];
  }

  private deedsAgainst(warning: IWarning, limits: ILimits): IDeed[] {
    if (warning.kind === 'idle') {
      const keep = { label: 'Keep it running', caption: 'Somebody is here' };
      return [{ ...keep, run: () => void this.keep() }];
    }
    return warning.kind === 'memory' ? this.deeds(limits).slice(0, 1) : this.deeds(limits);
  }

  private async keep(): Promise<void> {
    this.take(await this.client.used());
  }

  private async moreTime(): Promise<void> {
    const choices = this.session ? offers(this.session) : [];
    const chosen = await InputDialog.getItem({
      title: 'How much longer?',
      label: 'What runs goes on; its scheduler is told.',
      items: choices.map(choice => choice.label)
    });
    const choice = choices.find(({ label }) => label === chosen.value);
    if (!choice) {
      return;
    }
    try {
      this.session = await this.client.moreTime(choice.minutes);
    } catch (error) {
      Notification.error(`No more time: ${words(error)}`, { autoClose: false });
      return;
    }
    this.take(this.session);
    const ends_s = this.session.time.ends_s;
    if (ends_s) {
      Notification.success(`This server runs until ${clock(ends_s, Date.now() / 1000)} now.`, {
        autoClose: SHOWN_MS
      });
    }
  }

  private async goOn(): Promise<void> {
    await this.app.commands.execute(SAVE_ALL);
    const session = this.session ?? (await this.client.get());
    const here = window.location.pathname + window.location.search;
    const url = new URL(session.continue_path, PageConfig.getBaseUrl());
    url.searchParams.set('next', here);
    window.location.assign(url);
  }

  /** What is shown at the side. */
  readonly panel: SessionPanel;
  private readonly client: SessionClient;
  private readonly timeLeft: TimeLeft;
  private readonly warnings: Warnings;
  private readonly poll: Poll;
  private session: ISession | null = null;
}

const plugin: JupyterFrontEndPlugin<void> = {
  id: '@afportal/session:plugin',
  description: 'Tells where this server runs, what it uses and when it ends.',
  autoStart: true,
  optional: [IStatusBar, ILayoutRestorer],
  activate: (
    app: JupyterFrontEnd,
    statusBar: IStatusBar | null,
    restorer: ILayoutRestorer | null
  ) => {
    const session = new SessionPlugin(app, statusBar);
    restorer?.add(session.panel, 'afportal-session');
    // A server without the portal's routes has no session to tell of.
    void app.restored.then(() => session.begin()).catch(error => console.warn(words(error)));
  }
};

export default [plugin, sharePlugin, openPlugin];
