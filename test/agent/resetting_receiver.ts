/**
 * A process of its own, so that a reset may come between an agent's look at its socket and its next write: a receiver by TLS that
 * answers each message, and resets each connection some milliseconds after it began. Says by IPC how to get there.
 */
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ServerDuplexStream } from '@grpc/grpc-js';
import { replicationService, type AgentMessage, type ReceiverMessage } from '../../proto/replication.js';
import {
  authorityCertificate,
  certificateRequest,
  newSigningKey,
  readSigner,
  signRequest,
  type CertificateHolder,
} from '../../service/certificates.js';
import { RpcServer } from '../../service/rpc.js';
import { formatAddress } from '../../service/settings.js';
import { TlsListener, type TlsCredentials } from '../../service/tls_listener.js';

/** What the parent is told. */
export interface ResettingReceiver {
  /** HOST:PORT */
  target: string;
  host: TlsCredentials;
}

/** Of a connection; the first of it are its handshake. */
const LIFE_MS_MAX = 60;
const HOUR_MS = 3_600_000;
const LOOPBACK = { host: '127.0.0.1', port: 0 };

async function serve(credentials: TlsCredentials): Promise<net.AddressInfo> {
  const server = new RpcServer();
  server.add(replicationService, {
    session: (call: ServerDuplexStream<AgentMessage, ReceiverMessage>) => {
      call.on('error', () => undefined);
      const ack = { durableLsn: 1n, receivedLsn: 1n, heartbeats: 0 };
      call.on('data', () => call.write({ sequence: 0, ack }));
    },
  });
  const listener = new TlsListener(credentials, (connection) => {
    connection.on('error', () => undefined);
    server.take(connection);
  });
  return { ...(await listener.listen(LOOPBACK)), address: LOOPBACK.host, family: 'IPv4' };
}

function resetting(target: net.AddressInfo): net.Server {
  return net.createServer({ noDelay: true }, (agent) => {
    const receiver = net.createConnection({ host: target.address, port: target.port, noDelay: true });
    for (const [from, to] of [
      [agent, receiver],
      [receiver, agent],
    ] as const) {
      from.on('data', (bytes) => to.write(bytes));
      from.on('error', () => undefined);
      from.on('close', () => to.destroy());
    }
    void sleep(Math.random() * LIFE_MS_MAX).then(() => {
      agent.resetAndDestroy();
      receiver.resetAndDestroy();
    });
  });
}

const untilMs = Date.now() + HOUR_MS;
const top = await newSigningKey();
const authority = await authorityCertificate(top, 'test', untilMs);
const signer = await readSigner(authority, top.pem);

async function signed(holder: CertificateHolder): Promise<TlsCredentials> {
  const key = await newSigningKey();
  const certificate = await signRequest(signer, await certificateRequest(key), holder, untilMs);
  return { certificate, key: key.pem, authority };
}

const host = await signed({ kind: 'host', name: 'host', uuid: '5b1e8f0a-6f0e-4c39-9d7c-1f3b1a2c4d5e' });
const way = resetting(await serve(await signed({ kind: 'receiver' })));
way.listen(LOOPBACK, () => {
  const { port } = way.address() as net.AddressInfo;
  process.send?.({ target: formatAddress({ ...LOOPBACK, port }), host } satisfies ResettingReceiver);
});
process.on('disconnect', () => process.kill(process.pid));
