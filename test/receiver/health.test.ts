/** gRPC's health checking protocol: for those who have joined, and nobody else. */
import t from 'tap';
import { healthService } from '../../proto/health.js';
import { clientOf, codeOf } from '../attack/client.js';
import { RunningReceiver } from './running_receiver.js';

const LIMITS = { timeoutMs: 10_000 };

t.test('hosts and operators are told, strangers are not', async (t) => {
  const receiver = await RunningReceiver.start(t);
  for (const [kind, more] of [
    ['host', {}],
    ['operator', { role: 'viewer' }],
  ] as const) {
    const identity = await receiver.join(kind, 'one', more);
    const client = clientOf(t, receiver.tls, identity.authority, identity);
    for (const service of ['', 'afterimage.v1.Replication'])
      t.same(await client.callUnary(healthService.check, { service }, LIMITS), { status: 'SERVING' });
    t.not(await codeOf(client.callUnary(healthService.check, { service: 'none' }, LIMITS)), 'ok');
    if (kind === 'operator') continue;
    const { certificate } = await receiver.access('authority', {});
    const stranger = clientOf(t, receiver.tls, certificate, null);
    t.equal(
      await codeOf(stranger.callUnary(healthService.check, { service: '' }, LIMITS)),
      'IDENTITY_REFUSED',
    );
  }
});

t.test('whoever watches hears of the end', async (t) => {
  const receiver = await RunningReceiver.start(t);
  const identity = await receiver.join('operator', 'probe', { role: 'viewer' });
  const client = clientOf(t, receiver.tls, identity.authority, identity);
  const heard: string[] = [];
  const watching = (async () => {
    for await (const { status } of client.callStream(
      healthService.watch,
      { service: '' },
      { timeoutMs: null },
    )) {
      heard.push(status);
      if (heard.length === 1) void receiver.stop();
    }
  })();
  await watching.catch(() => undefined);
  t.same(heard, ['SERVING', 'NOT_SERVING']);
  const unknown: string[] = [];
  const other = await RunningReceiver.start(t);
  const again = await other.join('host', 'probe');
  const stream = clientOf(t, other.tls, again.authority, again).callStream(
    healthService.watch,
    { service: 'x' },
    { timeoutMs: 2000 },
  );
  for await (const { status } of stream) {
    unknown.push(status);
    break;
  }
  t.same(unknown, ['SERVICE_UNKNOWN']);
});
