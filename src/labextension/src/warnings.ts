/** Shows each warning once as a pop-up that stays, and takes it away when its cause has gone. */

import { Notification } from '@jupyterlab/apputils';
import { sentence, type ILimits, type IWarning } from './words';

/** What can be done about a warning. */
export interface IDeed {
  label: string;
  caption: string;
  run: () => void;
}

export class Warnings {
  /**
   * @param deeds what can be done about one, the most useful first.
   */
  constructor(private readonly deeds: (warning: IWarning, limits: ILimits) => IDeed[]) {}

  /** Take what threatens the session now. */
  update(limits: ILimits): void {
    const now = new Map(limits.warnings.map(warning => [warning.id, warning]));
    for (const [id, shown] of this.shown) {
      if (!now.has(id)) {
        Notification.dismiss(shown);
        this.shown.delete(id);
      }
    }
    for (const [id, warning] of now) {
      if (!this.shown.has(id)) {
        this.shown.set(id, this.show(warning, limits));
      }
    }
  }

  private show(warning: IWarning, limits: ILimits): string {
    return Notification.warning(sentence(warning, Date.now() / 1000), {
      autoClose: false,
      data: { afWarning: warning.id, afKind: warning.kind },
      actions: this.deeds(warning, limits).map((deed, place) => ({
        label: deed.label,
        caption: deed.caption,
        displayType: place === 0 ? 'accent' : 'default',
        callback: deed.run
      }))
    });
  }

  private readonly shown = new Map<string, string>();
}
