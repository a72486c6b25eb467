/** A link by TLS that is reset again and again while much is written: each time the agent finds out, and soon. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { readdir } from 'node:fs/promises';
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { systemClock } from '../../agent/clock.js';
import { plainEndpoint } from '../../agent/endpoint.js';
import { ReceiverLink } from '../../agent/link.js';
import { HEADROOM_BYTES } from '../../proto/replication.js';
import { TLS_CHANNEL, tlsCredentials } from '../../service/tls_client.js';
import type { ResettingReceiver } from './resetting_receiver.js';

const CONNECTIONS = Number(process.env['AFTERIMAGE_CONNECTIONS'] ?? 60);
/** Of this test: a second would be long. */
const TICK_MS = 20;
/** Without an answer. It takes one, and more where this process or the other has to wait. */
const TICKS_MAX = 100;
/** How long what held them may take to let go of descriptors. */
const LET_GO_MS_MAX = 30_000;
const FRAME_BYTES = 16 << 10;
const UNDER_WAY_MAX = 64;

t.setTimeout(120_000);

t.test('every reset is found, and nothing is left of the connection', async (t) => {
  const child = fork(fileURLToPath(new URL('./resetting_receiver.js', import.meta.url)));
  t.teardown(() => child.disconnect());
  const [{ target, host }] = (await once(child, 'message')) as [ResettingReceiver];
  const endpoint = {
    ...plainEndpoint({ host: '127.0.0.1', port: 1 }),
    find: () =>
      Promise.resolve({ target, credentials: tlsCredentials(host.authority, host), options: TLS_CHANNEL }),
  };
  let answers = 0;
  let losses = 0;
  const reasons = new Set<string>();
  const link = new ReceiverLink(endpoint, systemClock, {
    opened: () => undefined,
    received: () => void (answers += 1),
    closed: ({ code, message }) => {
      losses += 1;
      reasons.add(`${code}: ${message.replace(/ \(20.*/, '')}`);
    },
  });
  t.teardown(() => link.close());
  const files = await openFiles();
  let ticksMost = 0;
  for (let connection = 1; connection <= CONNECTIONS; connection += 1) {
    link.connect(0);
    const isLost = (): boolean => losses === connection;
    const writing = write(link, isLost);
    for (let ticks = 0; !isLost() && ticks < TICKS_MAX;) {
      const before = answers;
      await sleep(TICK_MS);
      link.ticked();
      ticks = answers > before ? 0 : ticks + 1;
      ticksMost = Math.max(ticksMost, ticks);
    }
    if (!isLost()) throw new Error(`connection ${connection} is gone, and nobody knows`);
    await writing;
  }
  t.comment([...reasons].join('; '));
  t.ok(
    [...reasons].some((reason) => reason.includes('the connection was reset')),
    'of some nobody else would have known',
  );
  t.pass(`none was without an answer for more than ${ticksMost} ticks`);
  const deadline = performance.now() + LET_GO_MS_MAX;
  while ((await openFiles()) > files && performance.now() < deadline) await sleep(100);
  t.equal(await openFiles(), files, 'their sockets are closed');
});

async function openFiles(): Promise<number> {
  return (await readdir('/proc/self/fd')).length;
}

/** As much as it takes, until the link is lost. */
async function write(link: ReceiverLink, isLost: () => boolean): Promise<void> {
  let underWay = 0;
  for (; !isLost(); await turn()) {
    if (underWay >= UNDER_WAY_MAX) continue;
    underWay += 1;
    const frame = {
      buffer: Buffer.alloc(HEADROOM_BYTES + FRAME_BYTES),
      headroom: HEADROOM_BYTES,
    };
    void link
      .send({ frame })
      .catch(() => undefined)
      .finally(() => (underWay -= 1));
  }
}
