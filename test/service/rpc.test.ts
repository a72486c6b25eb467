import { mkdir, mkdtemp, rename, rm, stat, writeFile } from 'node:fs/promises';
import http2 from 'node:http2';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import {
  agentControlService,
  CONTROL_MESSAGE_BYTES_MAX,
  receiverControlService,
  type AgentStatus,
  type CheckpointCreateRequest,
  type CheckpointInfo,
  type Empty,
  type RecoverProgress,
  type RecoverRequest,
} from '../../proto/control.js';
import { AfterimageError } from '../../proto/errors.js';
import { peerCredentials } from '../../native/index.js';
import { localName, type PeerOf } from '../../service/local_caller.js';
import { RpcClient, RpcServer, serverStream, unary, type CallContext } from '../../service/rpc.js';

const TIMEOUT_MS = 10_000;

async function temporary(test: Test): Promise<string> {
  const directory = await mkdtemp(path.join(os.tmpdir(), 'afterimage-rpc-'));
  test.teardown(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

interface Handlers {
  status?: (request: Empty, context: CallContext) => Promise<AgentStatus>;
  checkpoint?: (request: CheckpointCreateRequest) => Promise<CheckpointInfo>;
  recover?: (request: RecoverRequest, context: CallContext) => AsyncGenerator<RecoverProgress>;
}

async function serving(test: Test, handlers: Handlers): Promise<{ client: RpcClient; server: RpcServer }> {
  const socket = path.join(await temporary(test), 'run', 'agent.sock');
  const server = new RpcServer();
  const unused = (): Promise<never> => Promise.reject(new Error('not called'));
  server.add(agentControlService, {
    status: unary(handlers.status ?? unused),
    checkpointCreate: unary(handlers.checkpoint ?? unused),
  });
  if (handlers.recover !== undefined) {
    server.add({ recover: receiverControlService.recover }, { recover: serverStream(handlers.recover) });
  }
  await server.listenUnix(socket);
  test.teardown(() => server.stop(0));
  const client = await RpcClient.openControl(socket);
  test.teardown(() => client.close());
  return { client, server };
}

const status: AgentStatus = {
  version: '1',
  host: 'h',
  receiver: 'r',
  connected: true,
  groups: [],
  rssBytes: 2n ** 60n,
};
const recoverRequest: RecoverRequest = {
  group: 'g',
  volume: '',
  point: 'latest',
  target: '/t',
  overwrite: false,
  force: false,
};
function progress(bytesDone: bigint): RecoverProgress {
  return {
    volume: 'v',
    target: '/t',
    bytesDone,
    bytesTotal: 100n,
    bytesWritten: bytesDone,
    phase: 'copy',
    sha256: '',
    lsn: 1n,
    timeNs: 1n,
    point: 'lsn:1',
  };
}

t.test('a call is answered, with numbers of 64 bits whole', async (t) => {
  const { client } = await serving(t, { status: () => Promise.resolve(status) });
  t.same(await client.callUnary(agentControlService.status, {}, { timeoutMs: TIMEOUT_MS }), status);
});

t.test('a coded error keeps its code and its message, whatever characters that has', async (t) => {
  const message = 'größer: 100 % of /a#b?c\nsecond line \u{1f600} %2F';
  const { client } = await serving(t, {
    checkpoint: () => Promise.reject(new AfterimageError('CHECKPOINT_EXISTS', message)),
  });
  const call = client.callUnary(
    agentControlService.checkpointCreate,
    { group: 'g', name: 'n', pin: false, lockUntilNs: 0n },
    { timeoutMs: TIMEOUT_MS },
  );
  await t.rejects(call, { code: 'CHECKPOINT_EXISTS', message, hint: 'Choose another name.' });
});

t.test('half a surrogate pair and a very long message do not cost the code', async (t) => {
  const { client } = await serving(t, {
    status: () => Promise.reject(new AfterimageError('RING_FULL', `\ud800${'ü'.repeat(50_000)}`)),
  });
  const call = client.callUnary(agentControlService.status, {}, { timeoutMs: TIMEOUT_MS });
  await t.rejects(call, { code: 'RING_FULL', message: /^\ufffdüü/ });
});

t.test('a handler that throws before it gives a promise is no different', async (t) => {
  // Symptom: GROUP_UNKNOWN arrived as MESSAGE_INVALID "Unknown error", since gRPC caught it instead of us.
  const { client } = await serving(t, {
    status: () => {
      throw new AfterimageError('GROUP_UNKNOWN', 'no such group');
    },
  });
  const call = client.callUnary(agentControlService.status, {}, { timeoutMs: TIMEOUT_MS });
  await t.rejects(call, { code: 'GROUP_UNKNOWN', message: 'no such group' });
});

t.test('an error without a code is INTERNAL', async (t) => {
  const { client } = await serving(t, { status: () => Promise.reject(new TypeError('x is not a function')) });
  const call = client.callUnary(agentControlService.status, {}, { timeoutMs: TIMEOUT_MS });
  await t.rejects(call, { code: 'INTERNAL', message: 'x is not a function' });
});

t.test('a daemon that hangs ends the call at its deadline, and learns of it', async (t) => {
  let told: (value: unknown) => void;
  const hung = new Promise((resolve) => (told = resolve));
  const { client } = await serving(t, {
    status: (_request, { signal }) =>
      new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => {
          told(undefined);
          reject(new Error('cancelled'));
        });
      }),
  });
  const call = client.callUnary(agentControlService.status, {}, { timeoutMs: 50 });
  await t.rejects(call, { code: 'DAEMON_TIMEOUT', retryable: true });
  await hung;
});

t.test('a daemon of another version does not know the call', async (t) => {
  const { client } = await serving(t, {});
  const call = client.callUnary(receiverControlService.exportList, {}, { timeoutMs: TIMEOUT_MS });
  await t.rejects(call, { code: 'PROTOCOL_VERSION' });
});

t.test('an answer that is not the message asked for is MESSAGE_INVALID', async (t) => {
  const { client } = await serving(t, { status: () => Promise.resolve(status) });
  const wrong = {
    ...agentControlService.status,
    responseDeserialize: () => {
      throw new AfterimageError('MESSAGE_INVALID', 'AgentStatus: bad wire type');
    },
  };
  await t.rejects(client.callUnary(wrong, {}, { timeoutMs: TIMEOUT_MS }), { code: 'MESSAGE_INVALID' });
});

const point = (index: number): CheckpointInfo => ({
  name: `checkpoint-${index}-${'x'.repeat(40)}`,
  group: 'g',
  lsn: BigInt(index) + 2n ** 60n,
  timeNs: 2n ** 60n,
  consistency: 'crash',
  grade: 'ordered',
  pinned: false,
  lockedUntilNs: 0n,
});

t.test('a list of a hundred thousand checkpoints is an answer like any other', async (t) => {
  // Symptom: from about 30,000 on, `checkpoint list` said that the other side speaks another protocol.
  const socket = path.join(await temporary(t), 'receiver.sock');
  const server = new RpcServer();
  const { checkpointList } = receiverControlService;
  const checkpoints = Array.from({ length: 100_000 }, (_, index) => point(index));
  server.add({ checkpointList }, { checkpointList: unary(() => Promise.resolve({ checkpoints })) });
  await server.listenUnix(socket);
  t.teardown(() => server.stop(0));
  const client = await RpcClient.openControl(socket);
  t.teardown(() => client.close());
  const answer = await client.callUnary(checkpointList, { group: '' }, { timeoutMs: TIMEOUT_MS });
  t.equal(answer.checkpoints.length, checkpoints.length);
  t.same(answer.checkpoints.at(-1), checkpoints.at(-1));
});

t.test('an answer beyond the limit says so', async (t) => {
  const { client } = await serving(t, {
    status: () => Promise.resolve({ ...status, host: 'x'.repeat(CONTROL_MESSAGE_BYTES_MAX) }),
  });
  const call = client.callUnary(agentControlService.status, {}, { timeoutMs: TIMEOUT_MS });
  await t.rejects(call, { code: 'MESSAGE_TOO_LARGE', message: /too long/ });
});

t.test('a stream gives its messages in order and then the coded error that ended it', async (t) => {
  const { client } = await serving(t, {
    async *recover() {
      await Promise.resolve();
      yield progress(1n);
      yield progress(2n);
      throw new AfterimageError('TARGET_TOO_SMALL', '/t has 5 bytes');
    },
  });
  const seen: bigint[] = [];
  await t.rejects(
    async () => {
      const stream = client.callStream(receiverControlService.recover, recoverRequest, { timeoutMs: null });
      for await (const { bytesDone } of stream) seen.push(bytesDone);
    },
    { code: 'TARGET_TOO_SMALL', message: '/t has 5 bytes' },
  );
  t.same(seen, [1n, 2n]);
});

t.test('a stream is produced no faster than it is read', async (t) => {
  let produced = 0;
  const { client } = await serving(t, {
    async *recover(_request, { signal }) {
      await Promise.resolve();
      for (; !signal.aborted; produced += 1) yield { ...progress(1n), volume: 'x'.repeat(100_000) };
    },
  });
  const stream = client.callStream(receiverControlService.recover, recoverRequest, { timeoutMs: null });
  await stream.next();
  await new Promise((resolve) => setTimeout(resolve, 200));
  t.ok(produced < 100, `${produced} messages of 100 kB are on their way to a reader who took one`);
  await stream.return();
});

t.test('an abort ends a stream as INTERRUPTED, and the generator behind it runs its finally', async (t) => {
  let ended: (value: unknown) => void;
  const cleanedUp = new Promise((resolve) => (ended = resolve));
  const { client } = await serving(t, {
    async *recover(_request, { signal }) {
      try {
        yield progress(1n);
        await once(signal, 'abort');
        yield progress(2n);
      } finally {
        ended(undefined);
      }
    },
  });
  const abort = new AbortController();
  const stream = client.callStream(receiverControlService.recover, recoverRequest, {
    timeoutMs: null,
    signal: abort.signal,
  });
  t.equal((await stream.next()).value?.bytesDone, 1n);
  abort.abort();
  await t.rejects(stream.next(), { code: 'INTERRUPTED' });
  await cleanedUp;
});

t.test('a call that is aborted before it begins is not made', async (t) => {
  const { client } = await serving(t, { status: () => Promise.resolve(status) });
  const call = client.callUnary(
    agentControlService.status,
    {},
    { timeoutMs: TIMEOUT_MS, signal: AbortSignal.abort() },
  );
  await t.rejects(call, { code: 'INTERRUPTED' });
});

t.test('a control socket belongs to its owner alone, and so does the directory made for it', async (t) => {
  const umask = process.umask(0);
  t.teardown(() => process.umask(umask));
  const directory = path.join(await temporary(t), 'run');
  const server = new RpcServer();
  await server.listenUnix(path.join(directory, 'a.sock'));
  t.equal((await stat(path.join(directory, 'a.sock'))).mode & 0o777, 0o600);
  t.equal((await stat(directory)).mode & 0o777, 0o700);
  t.equal(process.umask(), 0, 'the mask is as it was');
  await server.stop(0);
  await t.rejects(stat(path.join(directory, 'a.sock')), { code: 'ENOENT' }, 'the socket is gone afterwards');
});

t.test('a socket that a killed daemon left is replaced, a live one is not', async (t) => {
  const socket = path.join(await temporary(t), 'a.sock');
  // libuv removes the socket of an orderly close; binding through another name leaves this one dead.
  const dead = net.createServer().listen(`${socket}.dead`);
  await once(dead, 'listening');
  await rename(`${socket}.dead`, socket);
  dead.close();
  await once(dead, 'close');

  const first = new RpcServer();
  await first.listenUnix(socket);
  t.teardown(() => first.stop(0));
  const second = new RpcServer();
  t.teardown(() => second.stop(0));
  await t.rejects(second.listenUnix(socket), { code: 'LISTEN_BUSY', message: new RegExp(socket) });
});

t.test('where a socket cannot be, the error says why', async (t) => {
  const directory = await temporary(t);
  const server = new RpcServer();
  t.teardown(() => server.stop(0));
  const file = path.join(directory, 'file');
  await writeFile(file, 'precious');
  await t.rejects(server.listenUnix(file), { code: 'LISTEN_FAILED', message: /not a socket/ });
  await t.rejects(server.listenUnix(path.join(file, 'a.sock')), { code: 'LISTEN_FAILED' });
  await t.rejects(server.listenUnix(path.join(directory, 'x'.repeat(108))), { code: 'LISTEN_FAILED' });
  await mkdir(path.join(directory, 'd'));
  await t.rejects(server.listenUnix(path.join(directory, 'd')), { code: 'LISTEN_FAILED' });
});

t.test('without a daemon there is DAEMON_UNREACHABLE, at once', async (t) => {
  const directory = await temporary(t);
  const missing = path.join(directory, 'none.sock');
  await t.rejects(RpcClient.openControl(missing), {
    code: 'DAEMON_UNREACHABLE',
    message: new RegExp(missing),
  });
});

t.test('a daemon that ends during a call leaves DAEMON_UNREACHABLE', async (t) => {
  let called: (value: unknown) => void;
  const isCalled = new Promise((resolve) => (called = resolve));
  const { client, server } = await serving(t, {
    status: () => {
      called(undefined);
      return new Promise(() => undefined);
    },
  });
  const call = client.callUnary(agentControlService.status, {}, { timeoutMs: TIMEOUT_MS });
  const rejected = t.rejects(call, { code: 'DAEMON_UNREACHABLE' });
  await isCalled;
  await server.stop(0);
  await rejected;
});

t.test('a stop lets the calls under way finish', async (t) => {
  let called: (value: unknown) => void;
  const isCalled = new Promise((resolve) => (called = resolve));
  let answer: (value: AgentStatus) => void = () => undefined;
  const { client, server } = await serving(t, {
    status: () => {
      called(undefined);
      return new Promise((resolve) => (answer = resolve));
    },
  });
  const call = client.callUnary(agentControlService.status, {}, { timeoutMs: TIMEOUT_MS });
  await isCalled;
  const stopped = server.stop(TIMEOUT_MS);
  answer(status);
  t.same(await call, status);
  await stopped;
});

t.test('loopback TCP, with a port that the system chose, and busy ports named', async (t) => {
  const server = new RpcServer();
  server.add({ status: agentControlService.status }, { status: unary(() => Promise.resolve(status)) });
  const address = await server.listenLoopback({ host: '127.0.0.1', port: 0 });
  t.teardown(() => server.stop(0));
  const client = RpcClient.openLoopback(address);
  t.teardown(() => client.close());
  t.same(await client.callUnary(agentControlService.status, {}, { timeoutMs: TIMEOUT_MS }), status);
  const second = new RpcServer();
  t.teardown(() => second.stop(0));
  await t.rejects(second.listenLoopback(address), { code: 'LISTEN_BUSY' });
});

t.test('somebody who connects and says nothing does not hold up a stop', async (t) => {
  const socket = path.join(await temporary(t), 'a.sock');
  const server = new RpcServer();
  await server.listenUnix(socket);
  const silent = net.connect({ path: socket });
  await once(silent, 'connect');
  t.teardown(() => silent.destroy());
  await server.stop(50);
  t.pass('it stopped');
});

t.test('who calls by a Unix socket', async (t) => {
  const addressBy = async (peerOf: PeerOf | null): Promise<string> => {
    const socket = path.join(await temporary(t), 'agent.sock');
    const server = new RpcServer();
    let heard = '';
    server.add(agentControlService, {
      status: unary<Empty, AgentStatus>((_request, { address }) => {
        heard = address;
        return Promise.resolve(status);
      }),
      checkpointCreate: unary(() => Promise.reject(new Error('not called'))),
    });
    await server.listenUnix(socket, peerOf);
    t.teardown(() => server.stop(0));
    const client = await RpcClient.openControl(socket);
    t.teardown(() => client.close());
    await client.callUnary(agentControlService.status, {}, { timeoutMs: TIMEOUT_MS });
    return heard;
  };
  const { username } = os.userInfo();
  t.match(await addressBy(peerCredentials), new RegExp(`^local ${username}( \\(login .*\\))?$`));
  t.equal(await addressBy(() => ({ pid: 2 ** 30, uid: 12_345_678 })), 'local uid 12345678');
  const unknown = (): never => {
    throw new AfterimageError('IO_ERROR', 'it is gone');
  };
  t.equal(await addressBy(unknown), 'local');
  t.equal(localName(await addressBy(null)), 'local', 'and where nobody asks');
  t.throws(() => peerCredentials(0), { code: 'IO_ERROR' }, 'no socket');
});

t.test('a client may send as much as the server was given for a window', async (t) => {
  const windowBytes = 3 << 20;
  for (const [options, streamBytes, connectionBytes] of [
    [{ 'grpc-node.flow_control_window': windowBytes }, windowBytes, windowBytes],
    [{}, 65_535, 65_535],
  ] as const) {
    const socket = path.join(await temporary(t), 'server.sock');
    const server = new RpcServer(options);
    await server.listenUnix(socket);
    t.teardown(() => server.stop(0));
    const session = http2.connect('http://localhost', { createConnection: () => net.connect(socket) });
    t.teardown(() => session.destroy());
    const deadline = performance.now() + TIMEOUT_MS;
    const isTold = (): boolean =>
      session.remoteSettings?.initialWindowSize === streamBytes &&
      session.state.remoteWindowSize === connectionBytes;
    while (!isTold() && performance.now() < deadline) await sleep(5);
    t.equal(session.remoteSettings?.initialWindowSize, streamBytes);
    t.equal(session.state.remoteWindowSize, connectionBytes);
  }
});
