/**
 * One end of a bare gRPC stream, a process of its own: `receive CREDENTIALS?` prints its port, counts what comes and prints the bytes
 * of each second that it is asked for; `send PORT CREDENTIALS?` sends until it is killed. Messages of 1 MiB, 8 MiB of them outstanding,
 * counted by the callbacks of their writes; no codec, no acknowledgement, no disk.
 */
import { readFileSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import net from 'node:net';
import tls from 'node:tls';
import { Client, credentials, type MethodDefinition, type ServerDuplexStream } from '@grpc/grpc-js';
import { RpcServer } from '../service/rpc.js';

const MESSAGE_BYTES = 1 << 20;
const MESSAGES = 64;
const OUTSTANDING_BYTES_MAX = 8 << 20;
const CHANNEL = {
  'grpc.max_receive_message_length': 2 << 20,
  'grpc.max_send_message_length': 2 << 20,
  'grpc-node.flow_control_window': 8 << 20,
  'grpc.enable_retries': 0,
  'grpc.per_rpc_retry_buffer_size': 0,
};
const method: MethodDefinition<Buffer, Buffer> = {
  path: '/bench/Stream',
  requestStream: true,
  responseStream: true,
  requestSerialize: (bytes) => bytes,
  requestDeserialize: (bytes) => bytes,
  responseSerialize: (bytes) => bytes,
  responseDeserialize: (bytes) => bytes,
};

const [role, ...words] = process.argv.slice(2);
if (role === 'receive') receive(words[0]);
else send(Number(words[0]), words[1]);

/** `pem`: certificate and key; undefined: without TLS. */
function receive(pem: string | undefined): void {
  // For its windows, which a server of grpc-js alone does not have.
  const server = new RpcServer(CHANNEL);
  let received = 0;
  const handler = (stream: ServerDuplexStream<Buffer, Buffer>): void => {
    stream.on('data', (bytes: Buffer) => (received += bytes.length));
    stream.on('error', () => undefined);
  };
  server.add({ stream: method }, { stream: handler });
  const take = (connection: net.Socket): void => server.take(connection);
  const text = pem === undefined ? null : readFileSync(pem, 'utf8');
  const listener =
    text === null
      ? net.createServer({ noDelay: true }, take)
      : tls.createServer({ cert: text, key: text, ALPNProtocols: ['h2'], minVersion: 'TLSv1.3' }, take);
  listener.listen(0, '127.0.0.1', () => console.log((listener.address() as net.AddressInfo).port));
  process.stdin.on('data', () => console.log(received));
}

function send(port: number, pem: string | undefined): void {
  const secure =
    pem === undefined
      ? credentials.createInsecure()
      : credentials.createSsl(readFileSync(pem), null, null, { checkServerIdentity: () => undefined });
  const named = { ...CHANNEL, 'grpc.ssl_target_name_override': 'bench' };
  const client = new Client(`127.0.0.1:${port}`, secure, named);
  const call = client.makeBidiStreamRequest(method.path, method.requestSerialize, method.responseDeserialize);
  call.on('error', (error) => console.error(error.message));
  call.resume();
  // So many that what is sent next is in no cache, as it is not in the product.
  const messages = Array.from({ length: MESSAGES }, () => randomBytes(MESSAGE_BYTES));
  let sent = 0;
  let outstanding = 0;
  const fill = (): void => {
    while (outstanding < OUTSTANDING_BYTES_MAX) {
      outstanding += MESSAGE_BYTES;
      call.write(messages[sent++ % MESSAGES] as Buffer, () => {
        outstanding -= MESSAGE_BYTES;
        fill();
      });
    }
  };
  fill();
}
