import { once } from 'node:events';
import {
  Client,
  credentials,
  Server,
  ServerCredentials,
  type ClientDuplexStream,
  type MethodDefinition,
  type ServerDuplexStream,
} from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { sendPrefixed } from '../../service/message_prefix.js';

const PREFIX_BYTES = 5;
const MESSAGE_BYTES = 1 << 20;
const echo: MethodDefinition<Buffer, Buffer> = {
  path: '/test/Echo',
  requestStream: true,
  responseStream: true,
  requestSerialize: (bytes) => bytes,
  requestDeserialize: (bytes) => bytes,
  responseSerialize: (bytes) => bytes,
  responseDeserialize: (bytes) => bytes,
};

async function echoing(test: Test): Promise<ClientDuplexStream<Buffer, Buffer>> {
  const server = new Server();
  const handler = (stream: ServerDuplexStream<Buffer, Buffer>): void => {
    stream.on('data', (bytes: Buffer) => stream.write(bytes));
    stream.on('end', () => stream.end());
  };
  server.addService({ echo }, { echo: handler });
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  test.teardown(() => server.forceShutdown());
  // As agent/link.ts has them.
  const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure(), {
    'grpc.enable_retries': 0,
    'grpc.per_rpc_retry_buffer_size': 0,
  });
  test.teardown(() => client.close());
  return client.makeBidiStreamRequest(echo.path, echo.requestSerialize, echo.responseDeserialize);
}

const known = new WeakMap<Buffer, Buffer>();
sendPrefixed((message) => known.get(message));

/** A message of zeroes, for which `bytes` bytes of `memory` go out, behind a prefix. */
function standIn(memory: Buffer, bytes: number): Buffer {
  const message = Buffer.alloc(bytes);
  memory[0] = 0;
  memory.writeUInt32BE(bytes, 1);
  known.set(message, memory.subarray(0, PREFIX_BYTES + bytes));
  return message;
}

t.test('what has its prefix goes out from where it lies, in order with what has none', async (t) => {
  const call = await echoing(t);
  const echoed: Buffer[] = [];
  call.on('data', (bytes: Buffer) => echoed.push(bytes));
  const expected: Buffer[] = [];
  // One memory for all, overwritten as soon as a write has called back.
  const memory = Buffer.alloc(PREFIX_BYTES + MESSAGE_BYTES);
  for (let number = 1; number <= 20; number += 1) {
    memory.fill(number);
    const message = standIn(memory, MESSAGE_BYTES - number);
    expected.push(Buffer.alloc(MESSAGE_BYTES - number, number));
    await new Promise((resolve) => call.write(message, resolve));
    const plain = Buffer.from(`number ${number}`);
    expected.push(plain);
    call.write(plain);
  }
  call.end();
  await once(call, 'end');
  t.equal(echoed.length, expected.length);
  t.ok(echoed.every((bytes, i) => expected[i]?.equals(bytes)));
});
