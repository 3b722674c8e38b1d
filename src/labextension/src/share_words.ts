/** What is asked and told of share links: no JupyterLab in here, so that Node tests it. */

import { clock, duration } from './words.js';

/** Whom a link is for, as `afportal.share.bodies.Audience` has it. */
export interface IAudience {
  kind: 'everybody' | 'groups' | 'people';
  names: string[];
}

/** What somebody did with a link. */
export interface IUse {
  person: string;
  what: string;
  version: number;
  at_s: number;
}

/** One link, as its owner sees it. */
export interface IShare {
  id: string;
  name: string;
  kind: 'notebook' | 'folder';
  path: string;
  audience: string;
  expires_s: number;
  over: '' | 'expired' | 'revoked';
  version: number;
  size: number;
  left_out: number;
  uses: IUse[];
}

/** A link that was just made: this once it is known itself. */
export interface IMade extends IShare {
  url: string;
}

/** How far links reach, and one's own. */
export interface IShares {
  lifetime_min: number;
  longest_min: number;
  groups: string[];
  links: IShare[];
}

/** How long a link may be good: what the facility proposes, some steps, the most. */
export function lifetimes(shares: IShares): { label: string; minutes: number }[] {
  const steps = new Set([shares.lifetime_min, 60, 240, 1440, shares.longest_min]);
  return [...steps]
    .filter(minutes => minutes <= shares.longest_min)
    .sort((one, other) => one - other)
    .map(minutes => ({ label: duration(minutes * 60), minutes }));
}

/** The names that somebody typed, each once. */
export function names(typed: string): string[] {
  return [...new Set(typed.split(/[\s,;]+/).filter(name => name))];
}

/** Until when a link is good, or how it ended. */
export function standing(share: IShare, now_s: number): string {
  if (share.over) {
    return share.over;
  }
  return `good until ${clock(share.expires_s, now_s)}, ${duration(share.expires_s - now_s)} more`;
}

/** Who fetched a copy, the last one first; who only looked at the page, or was refused, too. */
export function uses(share: IShare, now_s: number): string[] {
  const did: Record<string, string> = {
    opened: 'has a copy of',
    looked: 'looked at',
    refused: 'was refused'
  };
  return share.uses
    .map(
      use =>
        `${use.person} ${did[use.what] ?? use.what} version ${use.version}, ${clock(use.at_s, now_s)}`
    )
    .reverse();
}

/** What a new link holds, in one line. */
export function content(share: IShare): string {
  const kib = Math.max(1, Math.round(share.size / 1024));
  const size = kib < 1024 ? `${kib} KiB` : `${(kib / 1024).toFixed(1)} MiB`;
  const left = share.left_out
    ? `; ${share.left_out} hidden entries, links or special files were left out`
    : '';
  return `${share.name} as it was last saved, ${size}${left}`;
}
