/** What is asked before a link is made, and how the link is shown. */

import type { Dialog } from '@jupyterlab/apputils';
import { Widget } from '@lumino/widgets';
import { element } from './element';
import { lifetimes, names, type IAudience, type IShares } from './share_words';

/** How long and for whom. */
export interface IAsked {
  lifetime_min: number;
  audience: IAudience;
}

const GROUP = 'group:';

export class ShareForm extends Widget implements Dialog.IBodyWidget<IAsked> {
  constructor(shares: IShares) {
    super();
    this.addClass('af-ShareForm');
    this.lifetime = element('select', 'af-Share-lifetime');
    for (const { label, minutes } of lifetimes(shares)) {
      this.lifetime.add(new Option(label, String(minutes)));
    }
    this.lifetime.value = String(shares.lifetime_min);
    this.audience = element('select', 'af-Share-audience');
    this.audience.add(new Option('everybody who can log in', 'everybody'));
    for (const group of shares.groups) {
      this.audience.add(new Option(`members of ${group}`, GROUP + group));
    }
    this.audience.add(new Option('these people…', 'people'));
    this.people = element('input', 'af-Share-people');
    this.people.placeholder = 'names of accounts: bob, carol';
    this.people.setAttribute('aria-label', 'Names of accounts');
    this.people.hidden = true;
    this.audience.addEventListener('change', () => {
      this.people.hidden = this.audience.value !== 'people';
    });
    this.node.append(
      element('label', '', 'Good for', this.lifetime),
      element('label', '', 'For', this.audience),
      this.people,
      element(
        'p',
        '',
        'They get a copy of what is saved now, of their own; not your later changes, and nothing else of yours. ' +
          'Hidden files and links are left out.'
      )
    );
  }

  getValue(): IAsked {
    return { lifetime_min: Number(this.lifetime.value), audience: this.chosen() };
  }

  private chosen(): IAudience {
    const value = this.audience.value;
    if (value === 'people') {
      return { kind: 'people', names: names(this.people.value) };
    }
    if (value.startsWith(GROUP)) {
      return { kind: 'groups', names: [value.slice(GROUP.length)] };
    }
    return { kind: 'everybody', names: [] };
  }

  private readonly lifetime: HTMLSelectElement;
  private readonly audience: HTMLSelectElement;
  private readonly people: HTMLInputElement;
}

/** A link itself: it is shown this once. */
export class MadeLink extends Widget {
  /**
   * @param about what it leads to, and for whom.
   * @param after what becomes of it.
   */
  constructor(url: string, about: string, after: string) {
    super();
    this.addClass('af-ShareForm');
    const link = element('input', 'af-Share-url');
    link.readOnly = true;
    link.value = url;
    link.setAttribute('aria-label', 'Link');
    link.addEventListener('focus', () => link.select());
    const told = element('p', 'af-Share-copied');
    told.setAttribute('role', 'status');
    const copy = element('button', 'jp-mod-styled af-Share-copy', 'Copy');
    const copied = () =>
      navigator.clipboard.writeText(url).then(
        () => (told.textContent = 'It is in your clipboard.'),
        () => (told.textContent = 'This browser does not let it be copied: select it above.')
      );
    copy.addEventListener('click', () => void copied());
    this.node.append(
      element('p', '', about),
      link,
      copy,
      told,
      element('p', '', `It is not shown again. ${after}`)
    );
    void copied();
  }
}
