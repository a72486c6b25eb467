import { once } from 'node:events';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ServerDuplexStream } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { systemClock, type Clock } from '../../agent/clock.js';
import { plainEndpoint } from '../../agent/endpoint.js';
import { ReceiverLink, type LinkListener } from '../../agent/link.js';
import { AfterimageError } from '../../proto/errors.js';
import {
  HEADROOM_BYTES,
  replicationService,
  type AgentMessage,
  type ReceiverMessage,
} from '../../proto/replication.js';
import { RpcServer } from '../../service/rpc.js';

type Call = ServerDuplexStream<AgentMessage, ReceiverMessage>;

class NotedLink implements LinkListener {
  opens = 0;
  readonly messages: ReceiverMessage[] = [];
  readonly losses: string[] = [];
  opened(): void {
    this.opens += 1;
  }
  received(message: ReceiverMessage): void {
    this.messages.push(message);
  }
  closed(error: AfterimageError): void {
    this.losses.push(error.code);
  }
}

async function until(is: () => boolean): Promise<void> {
  while (!is()) await sleep(5);
}

async function listen(t: Test, session: (call: Call) => void): Promise<number> {
  const server = new RpcServer();
  server.add(replicationService, { session });
  const { port } = await server.listenLoopback({ host: '127.0.0.1', port: 0 });
  t.teardown(() => server.stop(0));
  return port;
}

function openLink(t: Test, port: number, clock: Clock = systemClock) {
  const noted = new NotedLink();
  const link = new ReceiverLink(plainEndpoint({ host: '127.0.0.1', port }), clock, noted);
  t.teardown(() => link.close());
  return { link, noted };
}

const heartbeatAck: ReceiverMessage = {
  sequence: 0,
  ack: { durableLsn: 2n ** 63n, receivedLsn: 2n ** 63n, heartbeats: 0 },
};

t.test('an address that is not loopback is refused, however it got here', (t) => {
  t.throws(() => plainEndpoint({ host: '192.0.2.1', port: 7443 }), { code: 'ADDRESS_NOT_LOOPBACK' });
  t.end();
});

t.test('a proxy in the environment is not the way to the receiver', async (t) => {
  // grpc-js follows `http_proxy` also to loopback addresses: plain text would have left the machine.
  const proxy = net.createServer((connection) => connection.destroy());
  proxy.listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  t.teardown(() => proxy.close());
  const { port: proxyPort } = proxy.address() as net.AddressInfo;
  process.env['http_proxy'] = `http://127.0.0.1:${proxyPort}`;
  t.teardown(() => delete process.env['http_proxy']);
  const { link, noted } = openLink(t, await listen(t, (call) => call.write(heartbeatAck)));
  link.connect(0);
  await until(() => noted.messages.length + noted.losses.length > 0);
  t.match(noted, { messages: [{ ack: Object }], losses: [] });
});

t.test('messages and frames there, answers back, in order', async (t) => {
  const heard: string[] = [];
  const port = await listen(t, (call) => {
    call.on('data', (message: AgentMessage) => {
      heard.push(
        'frame' in message ? `frame ${message.frame.buffer.toString()}` : `number ${message.sequence}`,
      );
      if (heard.length === 3) call.write(heartbeatAck);
    });
  });
  const { link, noted } = openLink(t, port);
  link.connect(0);
  await until(() => noted.opens === 1);
  const buffer = Buffer.concat([Buffer.alloc(HEADROOM_BYTES), Buffer.from('bytes')]);
  await Promise.all([
    link.send({ sequence: 0, goodbye: { reason: 'x' } }),
    link.send({ frame: { buffer, headroom: HEADROOM_BYTES } }),
    link.send({ sequence: 2, goodbye: { reason: 'x' } }),
  ]);
  await until(() => noted.messages.length === 1);
  t.strictSame(heard, ['number 0', 'frame bytes', 'number 2']);
  t.match(noted.messages[0], { ack: { durableLsn: 2n ** 63n } });
  link.disconnect(new AfterimageError('SESSION_ORDER', 'test'));
  await until(() => noted.losses.length === 1);
  t.strictSame(noted.losses, ['SESSION_ORDER'], 'closed says why it was closed');
  await t.rejects(link.send({ sequence: 3, goodbye: { reason: 'x' } }), { code: 'SESSION_LOST' });
});

t.test('a receiver that is away, and then there', async (t) => {
  const port = await listen(t, () => undefined);
  const { link, noted } = openLink(t, 1); // nobody listens on tcpmux
  link.connect(0);
  await until(() => noted.losses.length === 1);
  t.strictSame(noted.losses, ['RECEIVER_UNREACHABLE']);
  const other = openLink(t, port);
  other.link.connect(0);
  await until(() => other.noted.opens === 1);
});

t.test('a receiver that vanishes: waiting sends end, and the link can be opened again', async (t) => {
  // Never reading, so that flow control leaves sends waiting.
  const session = (call: Call): void => {
    call.on('error', () => undefined);
    call.write(heartbeatAck);
  };
  const first = new RpcServer();
  first.add(replicationService, { session });
  const { port } = await first.listenLoopback({ host: '127.0.0.1', port: 0 });
  const { link, noted } = openLink(t, port);
  link.connect(0);
  await until(() => noted.messages.length === 1);
  const buffer = Buffer.alloc(HEADROOM_BYTES + (1 << 20));
  const frame = { buffer, headroom: HEADROOM_BYTES };
  const results = Promise.allSettled(Array.from({ length: 40 }, () => link.send({ frame })));
  await sleep(50);
  await first.stop(0);
  const lost = (await results).filter((result) => result.status === 'rejected');
  t.ok(lost.length > 0, 'some were still waiting');
  t.strictSame(noted.losses, ['SESSION_LOST']);

  const second = new RpcServer();
  second.add(replicationService, { session });
  await second.listenLoopback({ host: '127.0.0.1', port });
  t.teardown(() => second.stop(0));
  for (let attempt = 1; noted.messages.length < 2; attempt += 1) {
    const losses = noted.losses.length;
    link.connect(attempt);
    await until(() => noted.losses.length > losses || noted.messages.length === 2);
  }
  t.ok(noted.opens >= 2);
});

t.test('the pause before an attempt ends at once when the link is closed', async (t) => {
  const slept: number[] = [];
  const clock: Clock = {
    ...systemClock,
    random: () => 0.5,
    sleep: (ms, signal) => {
      slept.push(ms);
      return new Promise((_resolve, reject) =>
        signal.addEventListener('abort', () => reject(new Error('aborted')), { once: true }),
      );
    },
  };
  const { link, noted } = openLink(t, 1, clock);
  link.connect(3);
  link.close();
  await until(() => noted.losses.length === 1);
  t.strictSame(slept, [200], 'half of 100 ms · 2²');
  t.equal(noted.opens, 0);
});

t.test('nothing of a frame is sent any more once its memory is free', async (t) => {
  const FRAMES = 24;
  const frameBytes = 1 << 20;
  const [sent, free] = [0x11, 0xee];
  const received: Buffer[] = [];
  const server = new RpcServer({
    'grpc.max_receive_message_length': 2 * frameBytes,
    'grpc-node.flow_control_window': 2 * FRAMES * frameBytes,
  });
  const session = (call: Call): void => {
    call.on('error', () => undefined);
    call.on('data', (message: AgentMessage) => 'frame' in message && received.push(message.frame.buffer));
  };
  server.add(replicationService, { session });
  const { port } = await server.listenLoopback({ host: '127.0.0.1', port: 0 });
  t.teardown(() => server.stop(0));
  // A network that lets nothing through for a while: what it does not take stays with the transport.
  let through = 0;
  let isOver = false;
  const held: net.Socket[] = [];
  const network = net.createServer((near) => {
    const far = net.connect(port, '127.0.0.1');
    far.pipe(near);
    near.on('data', (bytes: Buffer) => {
      far.write(bytes);
      through += bytes.length;
      if (through > 2 * frameBytes && held.length === 0) held.push(near.pause());
    });
    for (const socket of [near, far]) socket.on('error', () => undefined);
    near.on('close', () => {
      isOver = true;
      far.end();
    });
  });
  network.listen(0, '127.0.0.1');
  await once(network, 'listening');
  t.teardown(() => network.close());
  const { link, noted } = openLink(t, (network.address() as net.AddressInfo).port);
  link.connect(0);
  await until(() => noted.opens === 1);
  const memory = Array.from({ length: FRAMES }, () => Buffer.alloc(HEADROOM_BYTES + frameBytes, sent));
  const waiting = memory.map((buffer) =>
    link.send({ frame: { buffer, headroom: HEADROOM_BYTES } }).catch(() => void buffer.fill(free)),
  );
  await until(() => held.length > 0);
  await sleep(300);
  link.disconnect(new AfterimageError('SESSION_ORDER', 'test'));
  await Promise.all(waiting);
  held[0]?.resume();
  await until(() => isOver);
  await sleep(100);
  t.ok(received.length > 0 && received.length < FRAMES, `${received.length} frames came through`);
  t.notOk(
    received.some((bytes) => bytes.includes(free)),
    'as they were',
  );
});
