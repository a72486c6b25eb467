/**
 * A machine that means harm to a receiver costs its honest hosts nothing: a thousand connections that say nothing, strangers and a
 * host that has joined who say anything at all. The daemons are processes of their own, as they would be.
 */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import http2 from 'node:http2';
import net from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import tls from 'node:tls';
import zlib from 'node:zlib';
import t, { type Test } from 'tap';
import { readIdentity, type Identity } from '../../service/identity.js';
import { RECEIVER_NAME } from '../../service/tls_client.js';
import { command } from '../scenario/command.js';
import { joinOffline } from '../scenario/joined.js';
import { pseudorandom, SEED } from '../scenario/seed.js';
import { afterimage, type Site } from '../scenario/site.js';
import { socketSite } from '../scenario/socket_site.js';

const MIB = 1024 * 1024;
const HALF_OPEN = 1000;
const HOLD_MS = 12_000;
const GARBAGE_MS = 12_000;

/** Writes all the time, until it is told to stop; then everything is durable, and what was seen meanwhile is returned. */
async function honest(
  site: Site,
  uri: string,
  attack: () => Promise<void>,
): Promise<{ lagsMs: number[]; states: Set<string> }> {
  let isOver = false;
  const writing = (async () => {
    for (let at = 0; !isOver; at = (at + 1) % 4)
      await command('qemu-io', ['-f', 'raw', '-c', `write -P ${at + 1} ${at * 4}M 1M`, '-c', 'flush', uri]);
  })();
  const lagsMs: number[] = [];
  const states = new Set<string>();
  const watching = (async () => {
    while (!isOver) {
      const { state, rpoLagNs } = (await site.agentGroup()) as unknown as { state: string; rpoLagNs: string };
      states.add(state);
      lagsMs.push(Number(BigInt(rpoLagNs) / 1_000_000n));
      await sleep(100);
    }
  })();
  await attack().finally(() => (isOver = true));
  await Promise.all([writing, watching]);
  await site.settled();
  return { lagsMs, states };
}

function summary(lagsMs: number[]): string {
  const sorted = [...lagsMs].sort((a, b) => a - b);
  return `lag of ${sorted.length} looks: median ${sorted[sorted.length >> 1]} ms, longest ${sorted.at(-1)} ms`;
}

const addressOf = ({ listen }: Site): { host: string; port: number } => {
  const [host = '', port = ''] = listen.split(':');
  return { host, port: Number(port) };
};

t.test('a thousand connections that say nothing', async (t) => {
  const { site, uri } = await socketSite(t, 'half-open', 32 * MIB, { group: 'honest' });
  const address = addressOf(site);
  const { lagsMs, states } = await honest(site, uri, async () => {
    const idle: net.Socket[] = [];
    const open = (): void => {
      const connection = net.connect(address);
      connection.on('error', () => undefined);
      // Half of them begin a handshake, and go no further.
      if (idle.length % 2 === 0) connection.write(Buffer.from('1603010200010001fc0303', 'hex'));
      idle.push(connection);
    };
    for (let at = 0; at < HALF_OPEN; at += 1) open();
    const until = Date.now() + HOLD_MS;
    let joined = 0;
    while (Date.now() < until) {
      // Somebody else joins meanwhile, and those that were dropped are there again.
      for (const connection of idle.filter(({ destroyed }) => destroyed))
        idle.splice(idle.indexOf(connection), 1);
      while (idle.length < HALF_OPEN) open();
      const { stdout } = await afterimage([
        'receiver',
        'token',
        'create',
        '--host',
        `new${joined}`,
        '--control',
        site.receiverControl,
      ]);
      const config = path.join(site.scratch.directory, `new${joined}.toml`);
      await command('sh', ['-c', `echo 'state_dir = "${site.scratch.path(`new${joined}`)}"' > ${config}`]);
      await afterimage([
        'agent',
        'join',
        site.listen,
        stdout.trim(),
        '--name',
        `new${joined}`,
        '--config',
        config,
      ]);
      joined += 1;
    }
    for (const connection of idle) connection.destroy();
    t.ok(joined > 0, `${joined} hosts joined meanwhile`);
  });
  t.same([...states], ['protected'], summary(lagsMs));
});

/** An HTTP/2 connection as somebody, or as nobody. */
async function connected(
  site: Site,
  authority: string,
  as: Identity | null,
): Promise<http2.ClientHttp2Session> {
  const connection = tls.connect({
    ...addressOf(site),
    ...{ ca: authority, servername: RECEIVER_NAME, minVersion: 'TLSv1.3', ALPNProtocols: ['h2'] },
    ...(as === null ? {} : { cert: as.certificate, key: as.key }),
  });
  connection.on('error', () => undefined);
  await once(connection, 'secureConnect');
  const session = http2.connect('https://receiver', { createConnection: () => connection });
  session.on('error', () => undefined);
  return session;
}

const PATHS = [
  '/afterimage.v1.Replication/Session',
  '/afterimage.v1.Enrollment/Join',
  '/afterimage.v1.Identity/Renew',
  '/afterimage.v1.ReceiverControl/Status',
  '/afterimage.v1.Access/TokenCreate',
  '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo',
  '/../../etc/passwd',
  `/${'x'.repeat(4000)}`,
];

/** One call with a body that means nothing. */
async function garbage(session: http2.ClientHttp2Session, random: () => number): Promise<void> {
  const pick = <T>(all: readonly T[]): T => all[Math.floor(random() * all.length)] as T;
  const headers = {
    ':method': 'POST',
    ':path': pick(PATHS),
    'content-type': pick(['application/grpc', 'application/grpc+proto', 'text/html']),
    te: 'trailers',
    'grpc-encoding': pick(['identity', 'gzip', 'deflate', 'x'.repeat(100)]),
    'grpc-timeout': pick(['1S', '99999999H', 'x', '0n']),
  };
  const stream = session.request(headers);
  stream.on('error', () => undefined);
  const body = pick([
    () => randomBytes(Math.floor(random() * 5000)),
    // A length that is a lie, and one that nobody takes.
    () => Buffer.from('00ffffffff', 'hex'),
    () => Buffer.concat([Buffer.from([0, 0, 0, 16, 0]), randomBytes(4096)]),
    () => Buffer.concat([Buffer.from([0, 0, 0x30, 0, 0]), randomBytes(3 * MIB)]),
    // A megabyte that becomes a gigabyte.
    () => bomb,
    // The tag of a frame, and rubbish behind it.
    () => Buffer.concat([Buffer.from([0, 0, 0, 4, 3, 0x7a, 0x80, 0x08]), randomBytes(1024)]),
  ])();
  stream.end(body);
  stream.resume();
  await Promise.race([once(stream, 'close').catch(() => undefined), sleep(500)]);
  stream.destroy();
}

const packed = zlib.gzipSync(Buffer.alloc(256 * MIB));
const bomb = Buffer.concat([
  Buffer.from([1, packed.length >> 24, packed.length >> 16, packed.length >> 8, packed.length]),
  packed,
]);

async function attackAs(
  test: Test,
  site: Site,
  as: Identity | null,
  authority: string,
  random: () => number,
): Promise<void> {
  const until = Date.now() + GARBAGE_MS;
  let calls = 0;
  while (Date.now() < until) {
    const session = await connected(site, authority, as).catch(() => null);
    if (session === null) continue;
    for (let at = 0; at < 20 && !session.destroyed && Date.now() < until; at += 1, calls += 1)
      await garbage(session, random);
    session.destroy();
  }
  test.ok(calls > 20, `${calls} calls as ${as === null ? 'a stranger' : as.name}`);
}

t.test('strangers and a host that was taken over say anything at all', async (t) => {
  const random = pseudorandom(SEED);
  const { site, uri } = await socketSite(t, 'garbage', 32 * MIB, { group: 'honest' });
  await joinOffline(site.store, site.scratch.path('evil'), site.listen, 'evil');
  const evil = await readIdentity(site.scratch.path('evil', 'identity.json'));
  if (evil === null) throw new Error('nobody has joined');
  const { lagsMs, states } = await honest(site, uri, async () => {
    const attackers = [evil, evil, null, null];
    await Promise.all(attackers.map((as) => attackAs(t, site, as, evil.authority, random)));
  });
  t.same([...states], ['protected'], `seed ${SEED}: ${summary(lagsMs)}`);
  const log = await site.receiver.told();
  t.notMatch(log, /"level":"(error|fatal)"/, 'the receiver met no defect');
});

t.test('sslscan finds TLS 1.3 alone', async (t) => {
  const { site } = await socketSite(t, 'sslscan', 8 * MIB, { group: 'honest' });
  const { stdout } = await command('sslscan', ['--no-colour', site.listen]);
  const lines = (pattern: RegExp): string[] =>
    stdout
      .split('\n')
      .filter((line) => pattern.test(line))
      .map((line) => line.replaceAll(/\s+/g, ' ').trim());
  t.same(lines(/^(SSL|TLS)v?[\d.]+ +(enabled|disabled)/), [
    'SSLv2 disabled',
    'SSLv3 disabled',
    'TLSv1.0 disabled',
    'TLSv1.1 disabled',
    'TLSv1.2 disabled',
    'TLSv1.3 enabled',
  ]);
  const ciphers = lines(/^(Preferred|Accepted) /);
  t.ok(ciphers.length > 0 && ciphers.every((line) => line.includes('TLSv1.3')), ciphers.join('; '));
});
