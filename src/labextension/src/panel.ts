/** The panel at the side: where this session runs, what it uses, when it ends. */

import { Widget } from '@lumino/widgets';
import { element } from './element';
import type { IDeed } from './warnings';
import { clock, duration, job, memory, sentence, type ISession } from './words';

export class SessionPanel extends Widget {
  /**
   * @param deeds what its buttons do.
   * @param shown called when it comes into sight.
   */
  constructor(
    deeds: (session: ISession) => IDeed[],
    private readonly shown: () => void
  ) {
    super();
    this.id = 'af-session-panel';
    this.addClass('af-SessionPanel');
    this.title.caption = 'Session: its machine, memory and time';
    this.deeds = deeds;
    this.facts = element('dl', 'af-Session-facts');
    this.threats = element('ul', 'af-Session-warnings');
    this.threats.setAttribute('aria-live', 'polite');
    this.words = element('p', 'af-Session-words');
    this.buttons = element('div', 'af-Session-buttons');
    this.trouble = element('p', 'af-Session-trouble');
    this.trouble.setAttribute('role', 'status');
    this.node.append(
      element('h2', 'af-Session-title', 'Session'),
      this.threats,
      this.facts,
      this.words,
      this.buttons,
      this.trouble
    );
  }

  protected override onAfterShow(): void {
    this.shown();
  }

  /** Show the session as it is now. */
  showSession(session: ISession): void {
    const now_s = Date.now() / 1000;
    this.trouble.textContent = '';
    this.facts.replaceChildren(
      ...this.fact('Machine', session.node || 'this one', this.load(session)),
      ...this.fact('Runs as', job(session), session.class),
      ...(session.environment ? this.fact('Environment', session.environment) : []),
      ...this.memoryFacts(session),
      ...this.timeFacts(session, now_s)
    );
    this.threats.replaceChildren(
      ...session.warnings.map(warning => {
        const item = element('li', 'af-Session-warning', sentence(warning, now_s));
        item.dataset['afKind'] = warning.kind;
        return item;
      })
    );
    this.words.textContent = session.time.words ?? '';
    this.showDeeds(this.deeds(session));
  }

  /** Say why there is nothing newer. */
  showTrouble(words: string): void {
    this.trouble.textContent = words;
  }

  // A button that is being pressed must not be replaced by its like.
  private showDeeds(deeds: IDeed[]): void {
    const labels = deeds.map(deed => deed.label).join('\n');
    this.run = new Map(deeds.map(deed => [deed.label, deed.run]));
    if (labels === this.labels) {
      return;
    }
    this.labels = labels;
    this.buttons.replaceChildren(
      ...deeds.map(deed => {
        const button = element('button', 'jp-mod-styled', deed.label);
        button.title = deed.caption;
        button.addEventListener('click', () => this.run.get(deed.label)?.());
        return button;
      })
    );
  }

  private fact(name: string, value: string, more = ''): HTMLElement[] {
    const told = element('dd', '', value);
    if (more) {
      told.append(element('div', 'af-Session-more', more));
    }
    return [element('dt', '', name), told];
  }

  private load({ load }: ISession): string {
    if (!load) {
      return '';
    }
    const of = load.cores ? ` on ${load.cores} cores` : '';
    return `load ${load.one_min.toFixed(1)}${of}`;
  }

  private memoryFacts({ memory: m }: ISession): HTMLElement[] {
    if (m.used_mib === null) {
      return [];
    }
    const of = m.limit_mib ? ` of ${memory(m.limit_mib)}` : '';
    const [name, told] = this.fact(
      'Memory',
      memory(m.used_mib) + of,
      m.peak_mib ? `at most ${memory(m.peak_mib)}` : ''
    ) as [HTMLElement, HTMLElement];
    if (m.limit_mib) {
      const meter = element('meter', 'af-Session-meter');
      meter.max = m.limit_mib;
      meter.high = 0.9 * m.limit_mib;
      meter.value = m.used_mib;
      meter.setAttribute('aria-label', `${memory(m.used_mib)}${of}`);
      told.append(meter);
    }
    return [name, told];
  }

  private timeFacts({ time }: ISession, now_s: number): HTMLElement[] {
    if (!time.ends_s) {
      return this.fact('Time', 'no limit');
    }
    const more = time.longest_s ? `at the longest until ${clock(time.longest_s, now_s)}` : '';
    return this.fact(
      'Time left',
      `${duration(time.ends_s - now_s)}, until ${clock(time.ends_s, now_s)}`,
      more
    );
  }

  private readonly deeds: (session: ISession) => IDeed[];
  private readonly facts: HTMLElement;
  private readonly threats: HTMLElement;
  private readonly words: HTMLElement;
  private readonly buttons: HTMLElement;
  private readonly trouble: HTMLElement;
  private labels = '';
  private run = new Map<string, () => void>();
}
