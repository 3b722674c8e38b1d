/** Asks this server's own routes about live help. */

import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';
import type { ILiveHelp, IMadeHelpLink } from './live_help_words';

export class LiveHelpClient {
  constructor(private readonly settings: ServerConnection.ISettings) {}

  /** Who may come in; null where there is no live help, or this is not the owner's page. */
  async get(): Promise<ILiveHelp | null> {
    const response = await this.request('', 'GET');
    if (response.status === 404 || response.status === 403) {
      return null;
    }
    return this.told<ILiveHelp>(response);
  }

  /** Make a link; a refusal is an error with the words of the session or the hub. */
  async make(lifetime_min: number): Promise<IMadeHelpLink> {
    return this.told(await this.request('', 'POST', { lifetime_min }));
  }

  /** End what the path names ("people/bob", "links/3"), or all. */
  async end(what: string): Promise<void> {
    await this.told(await this.request(what && `/${what}`, 'DELETE'));
  }

  private request(path: string, method: string, body?: object): Promise<Response> {
    const url = URLExt.join(this.settings.baseUrl, 'api/af/live-help') + path;
    const init = { method, ...(body ? { body: JSON.stringify(body) } : {}) };
    return ServerConnection.makeRequest(url, init, this.settings);
  }

  private async told<T>(response: Response): Promise<T> {
    if (!response.ok) {
      throw await ServerConnection.ResponseError.create(response);
    }
    return (await response.json()) as T;
  }
}
