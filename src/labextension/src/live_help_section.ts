/** The part of the panel that says who may come into this server, and ends it. */

import { element } from './element';
import { helper, unused, type ILiveHelp } from './live_help_words';

/** What its buttons do. */
export interface ILiveHelpDeeds {
  letIn: () => Promise<void>;
  /** @param what "people/bob", "links/3"; empty: all. */
  end: (what: string) => Promise<void>;
}

export class LiveHelpSection {
  constructor(private readonly deeds: ILiveHelpDeeds) {
    this.list = element('ul', 'af-Share-links');
    this.buttons = element('div', 'af-Session-buttons');
    this.node = element(
      'section',
      'af-Help',
      element('h2', 'af-Session-title', 'Live help'),
      this.buttons,
      this.list
    );
    this.node.hidden = true;
    this.buttons.append(
      this.button('Let somebody in…', 'They work in this server as you', () => deeds.letIn()),
      (this.endAll = this.button('End all', 'Put everybody out, and end every link', () =>
        deeds.end('')
      ))
    );
  }

  /** Show how it is now; null: nothing of it. */
  show(help: ILiveHelp | null): void {
    this.node.hidden = !help;
    if (!help) {
      return;
    }
    const now_s = Date.now() / 1000;
    const rows = [
      ...help.people.map(one => this.row(helper(one, now_s), `people/${one.name}`)),
      ...help.links.map(one => this.row(unused(one, now_s), `links/${one.id}`))
    ];
    this.endAll.hidden = !rows.length;
    this.list.replaceChildren(
      ...(rows.length ? rows : [element('li', '', 'Nobody but you can come in.')])
    );
  }

  /** What is shown. */
  readonly node: HTMLElement;

  private row(words: string, what: string): HTMLElement {
    const item = element('li', 'af-Share-link', element('div', '', words));
    item.dataset['afHelp'] = what;
    item.append(this.button('End', 'End this now', () => this.deeds.end(what)));
    return item;
  }

  private button(label: string, caption: string, run: () => Promise<void>): HTMLButtonElement {
    const made = element('button', 'jp-mod-styled', label);
    made.title = caption;
    made.addEventListener('click', () => {
      made.disabled = true;
      void run().finally(() => (made.disabled = false));
    });
    return made;
  }

  private readonly list: HTMLElement;
  private readonly buttons: HTMLElement;
  private readonly endAll: HTMLButtonElement;
}
