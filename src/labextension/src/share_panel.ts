/** The panel at the side with one's share links: who opened them, refresh, revoke. */

import { Widget } from '@lumino/widgets';
import { element } from './element';
import { LiveHelpSection, type ILiveHelpDeeds } from './live_help_section';
import { standing, uses, type IShare } from './share_words';

/** What can be done with a link. */
export interface IShareDeeds {
  refresh: (share: IShare) => Promise<void>;
  revoke: (share: IShare) => Promise<void>;
}

export class SharePanel extends Widget {
  /**
   * @param deeds what the buttons of links do.
   * @param helpDeeds what those of live help do.
   * @param shown called when it comes into sight.
   */
  constructor(
    private readonly deeds: IShareDeeds,
    helpDeeds: ILiveHelpDeeds,
    private readonly shown: () => void
  ) {
    super();
    this.id = 'af-share-panel';
    this.addClass('af-SessionPanel');
    this.title.caption = 'Share links: who opened them';
    this.links = element('ul', 'af-Share-links');
    this.told = element('p', 'af-Session-trouble');
    this.told.setAttribute('role', 'status');
    this.help = new LiveHelpSection(helpDeeds);
    this.node.append(
      element('h2', 'af-Session-title', 'Share links'),
      this.told,
      this.links,
      this.help.node
    );
  }

  protected override onAfterShow(): void {
    this.shown();
  }

  /** Show the links as they are now. */
  showLinks(links: IShare[]): void {
    const now_s = Date.now() / 1000;
    this.links.replaceChildren(...links.map(link => this.link(link, now_s)));
    if (!links.length) {
      this.links.append(
        element('li', '', 'None yet: right-click a notebook or a folder, Copy Share Link…')
      );
    }
  }

  /** Say what was done, or what went wrong. */
  tell(words: string): void {
    this.told.textContent = words;
  }

  private link(share: IShare, now_s: number): HTMLElement {
    const item = element(
      'li',
      'af-Share-link',
      element('div', 'af-Share-path', share.path),
      element('div', '', `version ${share.version}, for ${share.audience}`),
      element('div', '', standing(share, now_s))
    );
    item.dataset['afShare'] = share.id;
    item.dataset['afOver'] = share.over;
    const told = uses(share, now_s);
    item.append(
      element('ul', 'af-Share-uses', ...told.map(words => element('li', '', words))),
      ...(told.length ? [] : [element('div', '', 'nobody opened it yet')])
    );
    if (!share.over) {
      item.append(
        this.button('Refresh', 'Send it again as it is saved now: a new version of the same link', () =>
          this.deeds.refresh(share)
        ),
        this.button('Revoke', 'End the link now; copies that people have stay theirs', () =>
          this.deeds.revoke(share)
        )
      );
    }
    return item;
  }

  private button(label: string, caption: string, run: () => Promise<void>): HTMLElement {
    const made = element('button', 'jp-mod-styled', label);
    made.title = caption;
    made.addEventListener('click', () => {
      made.disabled = true;
      void run().finally(() => (made.disabled = false));
    });
    return made;
  }

  /** Who may come into this server. */
  readonly help: LiveHelpSection;
  private readonly links: HTMLElement;
  private readonly told: HTMLElement;
}
