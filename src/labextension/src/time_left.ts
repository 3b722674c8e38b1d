/** The time left, in the status bar. */

import { Widget } from '@lumino/widgets';
import { clock, duration, type ILimits } from './words';

const EVERY_MS = 15_000;
const SOON_S = 30 * 60;

export class TimeLeft extends Widget {
  /**
   * @param open called when it is clicked.
   */
  constructor(open: () => void) {
    const node = document.createElement('button');
    super({ node });
    this.addClass('af-TimeLeft');
    node.type = 'button';
    node.addEventListener('click', open);
    this.timer = window.setInterval(() => this.render(), EVERY_MS);
  }

  /** Take when the session ends. */
  updateLimits(limits: ILimits): void {
    this.ends_s = limits.time.ends_s ?? null;
    this.render();
  }

  override dispose(): void {
    window.clearInterval(this.timer);
    super.dispose();
  }

  private render(): void {
    const now_s = Date.now() / 1000;
    this.setHidden(this.ends_s === null);
    if (this.ends_s !== null) {
      const left_s = this.ends_s - now_s;
      this.node.textContent = `${duration(left_s)} left`;
      this.node.title = `This server ends at ${clock(this.ends_s, now_s)}. Show the session.`;
      this.node.classList.toggle('af-mod-soon', left_s < SOON_S);
    }
  }

  private ends_s: number | null = null;
  private readonly timer: number;
}
