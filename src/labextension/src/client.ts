/** Asks this server's own routes about the session. */

import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';
import type { ISession } from './words';

/** Id of the events that tell what threatens a session. */
export const SCHEMA = 'urn:afportal:session:v1';

export class SessionClient {
  constructor(private readonly settings: ServerConnection.ISettings) {}

  /** What the session is now. */
  get(): Promise<ISession> {
    return this.request('', { method: 'GET' });
  }

  /** Ask for so many minutes more; a refusal is an error with the hub's words. */
  moreTime(minutes: number): Promise<ISession> {
    return this.request('/more-time', { method: 'POST', body: JSON.stringify({ minutes }) });
  }

  /** Say that somebody is here. */
  used(): Promise<ISession> {
    return this.request('/used', { method: 'POST', body: '{}' });
  }

  private async request(path: string, init: RequestInit): Promise<ISession> {
    const url = URLExt.join(this.settings.baseUrl, 'api/af/session') + path;
    const response = await ServerConnection.makeRequest(url, init, this.settings);
    if (!response.ok) {
      throw await ServerConnection.ResponseError.create(response);
    }
    return (await response.json()) as ISession;
  }
}
