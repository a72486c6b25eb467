/** `/metrics`, `/livez` and `/readyz` of a daemon, by plain HTTP on loopback: nothing of it changes anything, or is a secret. */
import http from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { toAfterimageError } from '../proto/errors.js';
import { listenTcp } from './listen.js';
import type { Log } from './log.js';
import { TEXT_FORMAT, type Metrics } from './metrics.js';
import { formatAddress, type LoopbackAddress } from './settings.js';

const REQUEST_MS_MAX = 10_000;
const CONNECTIONS_MAX = 32;
/** After an address that was not to be had. */
const AGAIN_MS = 30_000;

/** One thing that has to be so. */
export interface Check {
  name: string;
  /** Null: it is so. */
  fault: string | null;
}

export interface Health {
  /** Whether the daemon goes on at all: what is not, a restart may help. */
  live: () => Check[];
  /** Whether it does what it is there for. */
  ready: () => Check[];
}

export class MetricsServer {
  private readonly server: http.Server;
  private readonly stopping = new AbortController();

  constructor(
    private readonly metrics: Pick<Metrics<unknown>, 'text'>,
    private readonly health: Health,
    private readonly log: Log,
  ) {
    this.server = http.createServer((request, response) => void this.answer(request, response));
    this.server.requestTimeout = REQUEST_MS_MAX;
    this.server.maxConnections = CONNECTIONS_MAX;
  }

  /** Listens, and tries again until it does: nothing else waits for that. Never rejects. */
  async start(address: LoopbackAddress): Promise<void> {
    const { signal } = this.stopping;
    while (!signal.aborted) {
      try {
        const bound = formatAddress(await listenTcp(this.server, address));
        return this.log.info({ metrics: bound }, 'metrics can be had');
      } catch (thrown) {
        const { code, message } = toAfterimageError(thrown);
        this.log.error({ code }, `metrics cannot be had: ${message}`);
      }
      await sleep(AGAIN_MS, undefined, { signal }).catch(() => undefined);
    }
  }

  async close(): Promise<void> {
    this.stopping.abort();
    if (!this.server.listening) return;
    const closed = new Promise<void>((resolve) => this.server.close(() => resolve()));
    this.server.closeAllConnections();
    await closed;
  }

  /** Never rejects. */
  private async answer(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    const [pathname = '', query = ''] = (request.url ?? '/').split('?', 2);
    const say = (status: number, text: string, type = 'text/plain; charset=utf-8'): void => {
      response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store' });
      response.end(request.method === 'HEAD' ? '' : text);
    };
    if (request.method !== 'GET' && request.method !== 'HEAD') return say(405, 'only GET\n');
    try {
      switch (pathname) {
        case '/metrics':
          return say(200, await this.metrics.text(), TEXT_FORMAT);
        case '/livez':
          return sayChecks(this.health.live());
        case '/readyz':
          return sayChecks(this.health.ready());
        default:
          return say(404, '/metrics, /livez, /readyz?verbose\n');
      }
    } catch (thrown) {
      this.log.error(
        { err: toAfterimageError(thrown), path: pathname },
        'no answer to a look at this daemon',
      );
      say(500, `${toAfterimageError(thrown).code}\n`);
    }

    /** Those that fail always, all with `?verbose`. */
    function sayChecks(checks: Check[]): void {
      const isGood = checks.every(({ fault }) => fault === null);
      const shown = new URLSearchParams(query).has('verbose')
        ? checks
        : checks.filter(({ fault }) => fault !== null);
      const lines = shown.map(({ name, fault }) =>
        fault === null ? `[+]${name} ok` : `[-]${name} failed: ${fault}`,
      );
      say(isGood ? 200 : 503, [...lines, isGood ? 'ok' : 'failed'].join('\n') + '\n');
    }
  }
}
