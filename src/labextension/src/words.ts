/** What a session is in danger of, and how that is said: no JupyterLab in here, so that Node tests it. */

/** One warning, as `afportal.session.limits.Warned` has it. */
export interface IWarning {
  id: string;
  kind: 'time' | 'memory' | 'idle' | 'drain' | 'maintenance' | 'preemption';
  since_s: number;
  ends_s: number | null;
  used_mib: number | null;
  limit_mib: number | null;
  at_s: number | null;
  words: string;
}

/** What the session's limits are, as each event of the stream has it. */
export interface ILimits {
  time: { ends_s?: number | null; longest_s?: number | null; words?: string };
  memory: {
    used_mib: number | null;
    peak_mib: number | null;
    limit_mib: number | null;
  };
  warnings: IWarning[];
}

/** All that `api/af/session` tells. */
export interface ISession extends ILimits {
  backend: string;
  backend_title: string;
  job: string;
  node: string;
  class: string;
  environment: string;
  cores: number | null;
  continue_path: string;
  load: { one_min: number; cores: number | null } | null;
}

/** A length of time in words: "2 h 5 min", "4 min", "40 s". */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) {
    return `${whole} s`;
  }
  const minutes = Math.round(whole / 60);
  const hours = Math.floor(minutes / 60);
  if (!hours) {
    return `${minutes} min`;
  }
  return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
}

/** The time of day, and the day where that is not today; of this browser. */
export function clock(at_s: number, now_s: number): string {
  const at = new Date(at_s * 1000);
  const time = at.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
  if (at.toDateString() === new Date(now_s * 1000).toDateString()) {
    return time;
  }
  const day = at.toLocaleDateString([], { weekday: 'short', day: 'numeric', month: 'short' });
  return `${day}, ${time}`;
}

/** Memory in words: "3.2 GiB", "640 MiB". */
export function memory(mib: number): string {
  return mib < 1024 ? `${Math.round(mib)} MiB` : `${(mib / 1024).toFixed(1)} GiB`;
}

/** The operators' reason, in brackets and short; nothing where they gave none. */
function because(words: string): string {
  const most = 32;
  const short = words.length > most ? `${words.slice(0, most - 1)}…` : words;
  return words ? ` (${short})` : '';
}

/** A warning in one sentence: JupyterLab cuts what is longer than 140 characters. */
export function sentence(warning: IWarning, now_s: number): string {
  const ends = warning.ends_s ?? now_s;
  const when = `in ${duration(ends - now_s)}, at ${clock(ends, now_s)}`;
  const why = because(warning.words);
  switch (warning.kind) {
    case 'drain':
      return warning.ends_s
        ? `Its machine is taken out of use${why}: this server ends ${when}.`
        : `Its machine is being taken out of use${why}: nothing new starts there. Go on elsewhere soon.`;
    case 'maintenance': {
      const at = warning.at_s ?? now_s;
      const begins =
        at > now_s ? `begins in ${duration(at - now_s)}, at ${clock(at, now_s)}` : 'has begun';
      return `Maintenance of its machine ${begins}${why}: this server may end then.`;
    }
    case 'preemption':
      return `Its scheduler takes its place for another job: this server ends ${when}.`;
    case 'time':
      return `This server ends ${when}: its time is over then.`;
    case 'idle':
      return `Nobody uses this server: it is ended ${when}.`;
    case 'memory':
      return (
        `${memory(warning.used_mib ?? 0)} of ${memory(warning.limit_mib ?? 0)} of memory are in use. ` +
        'Beyond that a kernel, or the whole server, is stopped.'
      );
  }
}

/** The job in the words of its scheduler: "HTCondor, job 12.0". */
export function job(session: ISession): string {
  return `${session.backend_title}, job ${session.job}`;
}

/** How many minutes more may be asked for: an hour, four, all there are. */
export function offers(limits: ILimits): { label: string; minutes: number }[] {
  const { ends_s, longest_s } = limits.time;
  if (!ends_s || !longest_s) {
    return [];
  }
  const most = Math.floor((longest_s - ends_s) / 60);
  const steps = [60, 240].filter(minutes => minutes < most);
  return [
    ...steps.map(minutes => ({ label: `${duration(minutes * 60)} more`, minutes })),
    ...(most > 0 ? [{ label: `${duration(most * 60)} more, all that there is`, minutes: most }] : [])
  ];
}
