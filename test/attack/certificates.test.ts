/** Nobody gets in who does not belong: by no certificate, by one that is not valid any more, by another protocol. */
import { randomUUID, X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import net from 'node:net';
import path from 'node:path';
import tls from 'node:tls';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { enrollmentService, identityService } from '../../proto/access.js';
import { receiverControlService } from '../../proto/control.js';
import type { Hello } from '../../proto/replication.js';
import { Authority } from '../../receiver/authority.js';
import { Store } from '../../receiver/store.js';
import { certificateRequest, newSigningKey } from '../../service/certificates.js';
import type { Identity } from '../../service/identity.js';
import { joinReceiver, renewIdentity } from '../../service/joining.js';
import { RunningReceiver } from '../receiver/running_receiver.js';
import { join as synced } from '../receiver/synced_scene.js';
import { newIdentity, ScriptedStream } from '../receiver/scripted_agent.js';
import { clientOf, codeOf, handshake, sayPlain } from './client.js';

/** After which nobody else is sent away. */
const SETTLED_MS = 300;
/** HTTP/2 (RFC 9113, 3.4, 6.7): the preface with empty SETTINGS, and a PING. */
const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0', 'latin1');
const PING = Buffer.from('\0\0\x08\x06\0\0\0\0\0........', 'latin1');

/** Of the same name, with another certificate. */
async function withCertificate(
  identity: Identity,
  authority: Authority,
  uuid: string,
  lifetimeMs: number,
): Promise<Identity> {
  const key = await newSigningKey();
  const request = await certificateRequest(key);
  const certificate = await authority.sign(request, { kind: 'host', name: identity.name, uuid }, lifetimeMs);
  return { ...identity, certificate, key: key.pem };
}

/** Of a protocol that no receiver speaks: so whoever is let in is refused too, with LET_IN. */
const LET_IN = 'PROTOCOL_VERSION';

async function refusalOf(test: Test, { tlsAddress }: RunningReceiver, as: Identity): Promise<string> {
  const stream = new ScriptedStream(tlsAddress, as);
  test.teardown(() => stream.close());
  stream.say({ hello: { protocol: 999 } as Hello });
  const { code, retryable } = await stream.hear('refused');
  return retryable ? `${code} for now` : code;
}

function uuidOf({ certificate }: Identity): string {
  return new X509Certificate(certificate).subjectAltName?.slice('URI:urn:uuid:'.length) ?? '';
}

t.test('a host that was revoked is cut off at once, and stays out', async (t) => {
  const receiver = await RunningReceiver.start(t);
  const db1 = await receiver.join('host', 'db1');
  const db2 = await receiver.join('host', 'db2');
  const scene = await synced(t, receiver, newIdentity(), 'db1', 'data', 'db', db1);
  const other = await synced(t, receiver, newIdentity(), 'db2', 'data', 'mail', db2);
  await receiver.access('identityRevoke', { kind: 'host', name: 'db1' });
  await scene.stream.ended();
  t.equal(await refusalOf(t, receiver, db1), 'IDENTITY_REFUSED');
  t.equal(await codeOf(renewIdentity(receiver.tls, db1)), 'IDENTITY_REFUSED');
  const { identities } = await receiver.access('identityList', { kind: 'host' });
  t.match(identities, [
    { name: 'db1', connections: 0 },
    { name: 'db2', connections: 1, revokedNs: 0n },
  ]);
  const last = await other.agent.write(0, Buffer.alloc(512, 7));
  for (const frame of await other.agent.framesUpTo(last)) other.stream.ship(frame);
  await other.stream.hearAck(last);
  t.equal(
    (await receiver.call('timeline', { group: 'db' })).spans.at(-1)?.grade,
    'ordered',
    'its history stays',
  );

  const again = await receiver.join('host', 'db1');
  const back = new ScriptedStream(receiver.tlsAddress, again);
  t.teardown(() => back.close());
  back.say({ hello: scene.agent.hello({ epoch: 2n, durableLsn: 2n }) });
  await back.hear('welcome');
});

t.test('whoever joins under a name takes it from the one that had it', async (t) => {
  const receiver = await RunningReceiver.start(t);
  const before = await receiver.join('host', 'db1');
  const scene = await synced(t, receiver, newIdentity(), 'db1', 'data', 'db', before);
  await receiver.join('host', 'db1');
  await scene.stream.ended();
  t.equal(await refusalOf(t, receiver, before), 'IDENTITY_REFUSED');
});

t.test('a certificate that has expired, or is of another authority, or of nobody, or none', async (t) => {
  const receiver = await RunningReceiver.start(t);
  const db1 = await receiver.join('host', 'db1');
  const own = (await Authority.open(path.join(receiver.store, 'authority.pem'))) as Authority;
  const other = await Authority.generate(randomUUID());
  const uuid = uuidOf(db1);
  t.equal(
    await refusalOf(t, receiver, await withCertificate(db1, own, uuid, 3_600_000)),
    LET_IN,
    'a good one',
  );
  t.equal(
    await refusalOf(t, receiver, await withCertificate(db1, own, uuid, -1000)),
    'IDENTITY_REFUSED',
    'expired',
  );
  t.equal(
    await refusalOf(t, receiver, await withCertificate(db1, other, uuid, 3_600_000)),
    'IDENTITY_REFUSED',
    'of another authority',
  );
  t.equal(
    await refusalOf(t, receiver, await withCertificate(db1, own, randomUUID(), 3_600_000)),
    'IDENTITY_REFUSED',
    'of nobody',
  );
  const { certificate } = await receiver.access('authority', {});
  const stranger = clientOf(t, receiver.tls, certificate, null);
  const limits = { timeoutMs: 5000 };
  t.equal(await codeOf(stranger.callUnary(receiverControlService.status, {}, limits)), 'IDENTITY_REFUSED');
  t.equal(
    await codeOf(stranger.callUnary(identityService.renew, { request: Buffer.alloc(1) }, limits)),
    'IDENTITY_REFUSED',
  );
});

t.test('a connection does not outlive the certificate that it was made with', async (t) => {
  const receiver = await RunningReceiver.start(t);
  const db1 = await receiver.join('host', 'db1');
  const own = (await Authority.open(path.join(receiver.store, 'authority.pem'))) as Authority;
  const uuid = uuidOf(db1);
  const short = await withCertificate(db1, own, uuid, 3000);
  const stream = new ScriptedStream(receiver.tlsAddress, short);
  t.teardown(() => stream.close());
  await stream.ended();
});

t.test('a connection of which nothing comes any more is closed, one that speaks is not', async (t) => {
  const receiver = await RunningReceiver.prepare(t);
  await Store.init(receiver.store, randomUUID());
  await receiver.run('', { sweepMs: 50 });
  const { key, certificate } = await receiver.join('host', 'db1');
  const connected = async (): Promise<tls.TLSSocket> => {
    const { host, port } = receiver.tls;
    const shown = { key, cert: certificate, rejectUnauthorized: false, ALPNProtocols: ['h2'] };
    const connection = tls.connect({ host, port, ...shown });
    t.teardown(() => connection.destroy());
    await once(connection, 'secureConnect');
    connection.write(PREFACE);
    return connection.resume();
  };
  const [silent, speaking] = [await connected(), await connected()];
  const ping = setInterval(() => speaking.write(PING), 20);
  t.teardown(() => clearInterval(ping));
  await once(silent, 'close');
  await sleep(600);
  t.notOk(speaking.destroyed);
});

t.test('TLS 1.2, plain text, and another protocol over TLS', async (t) => {
  const receiver = await RunningReceiver.start(t);
  const { tls } = receiver;
  t.equal(await handshake(tls, { ALPNProtocols: ['h2'] }), 'secure');
  t.match(
    await handshake(tls, { ALPNProtocols: ['h2'], maxVersion: 'TLSv1.2' }),
    /PROTOCOL_VERSION|ECONNRESET/,
  );
  t.match(await handshake(tls, { ALPNProtocols: ['http/1.1'] }), /closed|NO_APPLICATION_PROTOCOL|ECONNRESET/);
  const answer = await sayPlain(tls, PREFACE, 5000);
  t.ok(answer !== 'open' && !answer.includes('grpc'), 'plain HTTP/2 is hung up on');
  await sleep(10);
  t.equal((await receiver.status()).groups.length, 0, 'and it is still there');
});

t.test('a certificate of a host is none of a receiver', async (t) => {
  // Else a host that was taken over could stand in for the receiver of all others.
  const receiver = await RunningReceiver.start(t);
  const db1 = await receiver.join('host', 'db1');
  const token = await receiver.token('host', 'db2');
  const { createServer } = await import('node:tls');
  let heard = 0;
  const impostor = createServer(
    { cert: db1.certificate + db1.authority, key: db1.key, ALPNProtocols: ['h2'] },
    (connection) => {
      connection.on('data', (data: Buffer) => (heard += data.length));
      connection.on('error', () => undefined);
    },
  );
  await new Promise<void>((resolve) => impostor.listen(0, '127.0.0.1', resolve));
  t.teardown(() => impostor.close());
  const { port } = impostor.address() as { port: number };
  const address = { host: '127.0.0.1', port };
  t.equal(
    await codeOf(joinReceiver(address, token, { kind: 'host', name: 'db2', software: 'test' })),
    'AUTHORITY_MISMATCH',
  );
  t.equal(heard, 0, 'the token was not told');
  const client = clientOf(t, address, db1.authority, null);
  t.equal(
    await codeOf(
      client.callUnary(
        enrollmentService.join,
        { secret: Buffer.alloc(16), request: Buffer.alloc(1), kind: 'host', name: '', software: '' },
        { timeoutMs: 2000 },
      ),
    ),
    'AUTHORITY_MISMATCH',
  );
});

t.test('certificates renew, and the old one goes on until it ends', async (t) => {
  const receiver = await RunningReceiver.start(t);
  const db1 = await receiver.join('host', 'db1');
  const renewed = await renewIdentity(receiver.tls, db1);
  t.not(renewed.key, db1.key, 'with another key');
  t.equal(await refusalOf(t, receiver, renewed), LET_IN);
  t.equal(await refusalOf(t, receiver, db1), LET_IN);
  t.equal(await codeOf(renewIdentity(receiver.tls, renewed)), 'RENEWAL_LIMIT', 'not one after the other');
});

/** Lets all through but the last words of handshakes, until it is told: then they arrive at once. */
async function heldUp(t: Test, { host, port }: { host: string; port: number }) {
  const held = new Map<net.Socket, Buffer[]>();
  const sockets: net.Socket[] = [];
  const proxy = net.createServer((client) => {
    const receiver = net.connect({ host, port });
    sockets.push(client, receiver);
    for (const one of [client, receiver]) one.on('error', () => undefined);
    receiver.pipe(client);
    client.once('data', (hello: Buffer) => {
      receiver.write(hello);
      held.set(receiver, []);
      client.on('data', (words: Buffer) => held.get(receiver)?.push(words));
    });
    receiver.once('close', () => client.destroy());
  });
  t.teardown(() => {
    for (const one of sockets) one.destroy();
    proxy.close();
  });
  proxy.listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  const release = (): void => {
    for (const [receiver, words] of held) receiver.write(Buffer.concat(words));
  };
  return { port: (proxy.address() as net.AddressInfo).port, held, release };
}

t.test('strangers who come all at once make room for each other, and for whoever is known', async (t) => {
  const COUNT = 200; // fewer than handshakes under way
  const receiver = await RunningReceiver.start(t);
  const db1 = await receiver.join('host', 'db1');
  const door = await heldUp(t, receiver.tls);
  const options = { rejectUnauthorized: false, ALPNProtocols: ['h2'] };
  const strangers = Array.from({ length: COUNT }, () =>
    tls.connect({ host: '127.0.0.1', port: door.port, ...options }),
  );
  t.teardown(() => strangers.forEach((one) => one.destroy()));
  for (const one of strangers) one.on('error', () => undefined).resume(); // to see its end
  const hasSpoken = (): boolean =>
    [...door.held.values()].filter((words) => words.length > 0).length === COUNT;
  while (!hasSpoken()) await sleep(20);
  door.release();
  const inside = (): number => strangers.filter(({ closed, destroyed }) => !closed && !destroyed).length;
  while (inside() === COUNT) await sleep(20);
  await sleep(SETTLED_MS);
  t.equal(inside(), 64, 'as many as there is room for');
  t.equal(await refusalOf(t, receiver, db1), LET_IN);
});
