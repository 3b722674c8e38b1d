/** Asks this server's own routes about share links. */

import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';
import type { IAudience, IMade, IShare, IShares } from './share_words';

export class ShareClient {
  constructor(private readonly settings: ServerConnection.ISettings) {}

  /** One's links, and how far they may reach. */
  list(): Promise<IShares> {
    return this.request<IShares>('', 'GET');
  }

  /** Make one; a refusal is an error with the words of the session or the hub. */
  make(path: string, lifetime_min: number, audience: IAudience): Promise<IMade> {
    return this.request<IMade>('', 'POST', { path, lifetime_min, audience });
  }

  /** Make what lies at the path now its newest version. */
  refresh(share: IShare): Promise<IShare> {
    return this.request<IShare>(`/${share.id}`, 'POST', { path: share.path });
  }

  /** End one. */
  async revoke(share: IShare): Promise<void> {
    await this.request(`/${share.id}`, 'DELETE');
  }

  private async request<T>(path: string, method: string, body?: object): Promise<T> {
    const url = URLExt.join(this.settings.baseUrl, 'api/af/shares') + path;
    const init = { method, ...(body ? { body: JSON.stringify(body) } : {}) };
    const response = await ServerConnection.makeRequest(url, init, this.settings);
    if (!response.ok) {
      throw await ServerConnection.ResponseError.create(response);
    }
    return (await response.json()) as T;
  }
}
