/** Whoever has a token can be one host or operator, once, for a while, at the receiver that made it, and at no other. */
import { rename } from 'node:fs/promises';
import path from 'node:path';
import t from 'tap';
import { enrollmentService } from '../../proto/access.js';
import * as native from '../../native/index.js';
import { AfterimageError } from '../../proto/errors.js';
import { replaceAuthority } from '../../receiver/new_authority.js';
import { joinReceiver, renewIdentity } from '../../service/joining.js';
import { formatToken, parseToken } from '../../service/token.js';
import { RunningReceiver } from '../receiver/running_receiver.js';
import { newIdentity, ScriptedStream } from '../receiver/scripted_agent.js';
import { join as synced } from '../receiver/synced_scene.js';
import { clientOf, codeOf } from './client.js';

const DB1 = { kind: 'host', name: 'db1', software: 'test' } as const;
/** As in receiver/enrollment.ts. */
const FAILURES_PER_MINUTE_MAX = 10;

t.test('a token that was used', async (t) => {
  const receiver = await RunningReceiver.start(t);
  const token = await receiver.token('host', 'db1');
  const first = await joinReceiver(receiver.tls, token, DB1);
  await t.rejects(joinReceiver(receiver.tls, token, DB1), { code: 'TOKEN_REFUSED', message: /was used at/ });
  const { identities } = await receiver.access('identityList', { kind: 'host' });
  t.match(identities, [{ name: 'db1', groups: [], foundsGroups: true, revokedNs: 0n }]);
  t.equal(identities.length, 1);
  t.equal(first.name, 'db1');
});

t.test('of two that use a token at the same time one joins', async (t) => {
  const receiver = await RunningReceiver.start(t);
  const token = await receiver.token('host', 'db1');
  const codes = await Promise.all(
    Array.from({ length: 4 }, () => codeOf(joinReceiver(receiver.tls, token, DB1))),
  );
  t.same(codes.sort(), ['TOKEN_REFUSED', 'TOKEN_REFUSED', 'TOKEN_REFUSED', 'ok']);
});

t.test('a token that has expired', async (t) => {
  const receiver = await RunningReceiver.start(t);
  const token = await receiver.token('host', 'db1', { ttlMs: 1000 });
  await new Promise((resolve) => setTimeout(resolve, 1100));
  await t.rejects(joinReceiver(receiver.tls, token, DB1), { code: 'TOKEN_REFUSED', message: /has expired/ });
});

t.test('a token for somebody else', async (t) => {
  const receiver = await RunningReceiver.start(t);
  const token = await receiver.token('host', 'db2');
  await t.rejects(joinReceiver(receiver.tls, token, DB1), {
    code: 'TOKEN_REFUSED',
    message: /host db2, not for db1/,
  });
  const operator = { kind: 'operator', name: '', software: 'test' } as const;
  await t.rejects(joinReceiver(receiver.tls, token, operator), {
    code: 'TOKEN_REFUSED',
    message: /not for an operator/,
  });
  t.equal(
    (await joinReceiver(receiver.tls, token, { ...DB1, name: 'db2' })).name,
    'db2',
    'it was not used up',
  );
});

t.test('a token of another authority: its secret reaches nobody', async (t) => {
  const [receiver, other] = [await RunningReceiver.start(t), await RunningReceiver.start(t)];
  const token = await other.token('host', 'db1');
  await t.rejects(joinReceiver(receiver.tls, token, DB1), { code: 'AUTHORITY_MISMATCH' });
  t.equal((await joinReceiver(other.tls, token, DB1)).name, 'db1');
  // Who shows the right authority behind a certificate that it has not signed is not believed either.
  const mixed = formatToken({
    ...parseToken(await receiver.token('host', 'db1')),
    fingerprint: parseToken(token).fingerprint,
  });
  await t.rejects(joinReceiver(receiver.tls, mixed, DB1), { code: 'AUTHORITY_MISMATCH' });
});

t.test('what is no token, or not all of one', async (t) => {
  const receiver = await RunningReceiver.start(t);
  const token = await receiver.token('host', 'db1');
  const flipped = token.slice(0, 20) + (token[20] === 'A' ? 'B' : 'A') + token.slice(21);
  for (const text of [
    '',
    'afterimage-',
    token.slice(0, -1),
    `${token}A`,
    flipped,
    'x'.repeat(10_000),
    token.toUpperCase(),
  ])
    await t.rejects(joinReceiver(receiver.tls, text, DB1), { code: 'TOKEN_INVALID' }, text.slice(0, 30));
  t.equal((await joinReceiver(receiver.tls, token, DB1)).name, 'db1');
});

t.test('a secret that was made up, again and again', async (t) => {
  const receiver = await RunningReceiver.start(t);
  const good = parseToken(await receiver.token('host', 'db1'));
  const guess = (last: number): string => {
    const secret = Buffer.from(good.secret);
    secret[15] = (secret[15] ?? 0) ^ last;
    return formatToken({ ...good, secret });
  };
  for (let at = 1; at <= FAILURES_PER_MINUTE_MAX; at += 1)
    await t.rejects(joinReceiver(receiver.tls, guess(at), DB1), { code: 'TOKEN_REFUSED' });
  await t.rejects(
    joinReceiver(receiver.tls, guess(0), DB1),
    { code: 'TOKEN_LIMIT' },
    'the right one is not looked at either',
  );
});

t.test('a request that is none', async (t) => {
  const receiver = await RunningReceiver.start(t);
  const { certificate } = await receiver.access('authority', {});
  const client = clientOf(t, receiver.tls, certificate, null);
  const token = await receiver.token('host', 'db1');
  const { secret } = parseToken(token);
  const join = (request: Buffer) =>
    client.callUnary(
      enrollmentService.join,
      { secret, request, kind: 'host', name: 'db1', software: '' },
      { timeoutMs: 5000 },
    );
  for (const request of [
    Buffer.alloc(0),
    Buffer.from('30820122', 'hex'),
    Buffer.alloc(4000, 0x30),
    Buffer.alloc(5000),
  ])
    await t.rejects(join(request), { code: 'MESSAGE_INVALID' });
  await t.rejects(join(Buffer.alloc(64 * 1024)), { code: 'MESSAGE_TOO_LARGE' });
  t.equal((await joinReceiver(receiver.tls, token, DB1)).name, 'db1', 'none of it used the token up');
});

t.test('names that are none', async (t) => {
  const receiver = await RunningReceiver.start(t);
  for (const name of ['', '../db1', 'db1\0', 'x'.repeat(10_000), 'dｂ1', 'db1\n', '.', '-x', 'a/b'])
    for (const kind of ['host', 'operator'] as const)
      await t.rejects(receiver.token(kind, name, kind === 'host' ? {} : { role: 'viewer' }), {
        code: 'USAGE',
      });
  await t.rejects(receiver.token('host', 'db1', { groups: ['../shop'] }), { code: 'USAGE' });
  await t.rejects(receiver.token('operator', 'anna', { role: 'agent' }), { code: 'USAGE' });
  await t.rejects(receiver.token('operator', 'anna', { role: 'root' }), { code: 'USAGE' });
});

t.test('an authority that is not there any more', async (t) => {
  const receiver = await RunningReceiver.start(t);
  await receiver.join('host', 'db1');
  await receiver.stop();
  const file = path.join(receiver.store, 'authority.pem');
  await rename(file, `${file}.away`);
  await t.rejects(
    receiver.run(),
    { code: 'AUTHORITY_MISSING' },
    'it is not made anew: nobody who has joined would know it',
  );
  await rename(`${file}.away`, file);
  await receiver.run();
});

t.test('another authority: whoever had joined stays out, until it joins again; history stays', async (t) => {
  const receiver = await RunningReceiver.start(t);
  const db1 = await receiver.join('host', 'db1');
  const unused = await receiver.token('host', 'db2');
  const scene = await synced(t, receiver, newIdentity(), 'db1', 'data', 'db', db1);
  scene.stream.close();
  const asked: unknown[] = [];
  const replace = (confirm: (replacement: unknown) => Promise<void>) =>
    replaceAuthority(receiver.store, native.lockFile, confirm);
  await t.rejects(
    replace(() => Promise.resolve()),
    { code: 'STORE_BUSY' },
  );
  await receiver.stop();
  await t.rejects(
    replace(() => Promise.reject(new AfterimageError('INTERRUPTED', 'no'))),
    { code: 'INTERRUPTED' },
  );
  await receiver.run();
  t.equal((await renewIdentity(receiver.tls, db1)).name, 'db1', 'it is as it was');
  await receiver.stop();
  await replace((replacement) => Promise.resolve(void asked.push(replacement)));
  t.same(asked, [{ hosts: 1, operators: 0 }]);
  await receiver.run();
  await t.rejects(joinReceiver(receiver.tls, unused, { ...DB1, name: 'db2' }), {
    code: 'AUTHORITY_MISMATCH',
  });
  await t.rejects(
    renewIdentity(receiver.tls, db1),
    { code: 'AUTHORITY_MISMATCH' },
    'it knows this receiver no more either',
  );
  t.equal((await receiver.call('timeline', { group: 'db' })).spans.at(-1)?.grade, 'ordered');
  const again = await receiver.join('host', 'db1');
  const back = new ScriptedStream(receiver.tlsAddress, again);
  t.teardown(() => back.close());
  back.say({ hello: scene.agent.hello({ epoch: 2n, durableLsn: 2n }) });
  await back.hear('welcome');
});
