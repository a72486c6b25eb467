/** A receiver of another version: production goes on, and the status says why nothing is replicated. */
import { writeFileSync } from 'node:fs';
import type { ServerDuplexStream } from '@grpc/grpc-js';
import t from 'tap';
import { replicationService, type AgentMessage, type ReceiverMessage } from '../../proto/replication.js';
import { helloFault } from '../../receiver/hello.js';
import { RpcServer } from '../../service/rpc.js';
import { qemuIo, RunningAgent, scratchDirectory, socketVolume } from './running_agent.js';

t.test("an agent whose version the receiver does not speak says so, in the receiver's words", async (t) => {
  const server = new RpcServer();
  server.add(replicationService, {
    session: (call: ServerDuplexStream<AgentMessage, ReceiverMessage>) => {
      call.on('data', (message: AgentMessage) => {
        if (!('hello' in message)) return;
        // As a receiver that is a version behind would find it.
        const fault = helloFault({ ...message.hello, protocol: 7, protocolOldest: 5 });
        if (fault !== null) call.write({ sequence: 0, refused: { ...fault, retryable: false } });
        call.end();
      });
    },
  });
  const { port } = await server.listenLoopback({ host: '127.0.0.1', port: 0 });
  t.teardown(() => server.stop(0));
  const directory = scratchDirectory(t);
  const volume = socketVolume(directory);
  writeFileSync(volume.backing, Buffer.alloc(1 << 20));
  const agent = await RunningAgent.start({ directory, receiverPort: port, volumes: [volume] });
  t.teardown(() => agent.stopNow());
  const { state, detail } = await agent.until('refused', (now) => now.detail.startsWith('PROTOCOL_VERSION'));
  t.match(detail, 'PROTOCOL_VERSION: the agent speaks versions 5 to 7, this receiver version 1');
  t.not(state, 'protected');
  await qemuIo(`${directory}/run/db-data.sock`, 'write -P 17 0 64k', 'flush');
});
