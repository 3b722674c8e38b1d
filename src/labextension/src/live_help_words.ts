/** What is asked and told of live help: no JupyterLab in here, so that Node tests it. */

import { clock, duration } from './words.js';

/** A link that nobody has used yet. */
export interface IHelpLink {
  id: string;
  made_s: number;
  ends_s: number;
}

/** A link that was just made: this once it is known itself. */
export interface IMadeHelpLink extends IHelpLink {
  url: string;
}

/** Somebody who may come in. */
export interface IHelper {
  name: string;
  since_s: number;
  ends_s: number;
}

/** How long it may be, and who may come in now. */
export interface ILiveHelp {
  longest_min: number;
  lifetimes_min: number[];
  links: IHelpLink[];
  people: IHelper[];
}

/** What somebody gets who is let in; each is a line of the warning. */
export const WARNING = [
  'Whoever opens the link first and can log in works in this server as you: they can read, change and delete all your ' +
    'files, use your tokens and accounts, and submit and end jobs in your name.',
  'What they leave running or write down stays after they have gone. Let in only people whom you know and trust.',
  'It ends with its time, with this server, or when you end it in the panel.',
  'To show somebody a notebook, give a share link: that is a copy, and nothing else of yours.'
];

/** What is chosen from, the shortest first. */
export function helpLifetimes(help: ILiveHelp): { label: string; minutes: number }[] {
  return help.lifetimes_min.map(minutes => ({ label: duration(minutes * 60), minutes }));
}

/** Of somebody who may come in: since when, until when. */
export function helper(person: IHelper, now_s: number): string {
  const left = duration(person.ends_s - now_s);
  return `${person.name} may come in, since ${clock(person.since_s, now_s)}, ${left} more`;
}

/** Of an unused link: until when it is good. */
export function unused(link: IHelpLink, now_s: number): string {
  return `a link that nobody has used, good until ${clock(link.ends_s, now_s)}`;
}
