/**
 * Stands between an agent and its receiver: hands every message on as it is, hears what is promised before it does, and can
 * cut the connection.
 */
import { Client, credentials, Server, ServerCredentials } from '@grpc/grpc-js';
import { MESSAGE_BYTES_MAX, replicationService } from '../../proto/replication.js';
import { SessionEar } from './promises.js';
const { session } = replicationService;
const asIs = (bytes) => bytes;
/** A receiver that is away: gRPC's UNAVAILABLE. */
const UNAVAILABLE = 14;
const OPTIONS = {
    'grpc.max_receive_message_length': MESSAGE_BYTES_MAX,
    'grpc.max_send_message_length': MESSAGE_BYTES_MAX,
    'grpc.use_local_subchannel_pool': 1,
};
export class Relay {
    promised = [];
    server = new Server(OPTIONS);
    cuts = new Set();
    address = '';
    /** Listens for an agent, whose receiver is at `receiver`. */
    static async start(receiver) {
        const relay = new Relay();
        const { path, requestStream, responseStream } = session;
        const bytes = { requestSerialize: asIs, requestDeserialize: asIs };
        const definition = { path, requestStream, responseStream, ...bytes };
        relay.server.addService({ session: { ...definition, responseSerialize: asIs, responseDeserialize: asIs } }, { session: (stream) => relay.serve(stream, receiver) });
        const port = await new Promise((resolve, reject) => {
            relay.server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) => error === null ? resolve(bound) : reject(error));
        });
        relay.address = `127.0.0.1:${port}`;
        return relay;
    }
    get listen() {
        return this.address;
    }
    /** Ends every session that there is, as a network does. */
    cut() {
        for (const cut of [...this.cuts])
            cut();
    }
    stop() {
        this.cut();
        this.server.forceShutdown();
    }
    serve(agent, receiver) {
        const client = new Client(receiver, credentials.createInsecure(), OPTIONS);
        const upstream = client.makeBidiStreamRequest(session.path, asIs, asIs);
        const ear = new SessionEar((promised) => {
            this.promised.push({ ...promised, ns: process.hrtime.bigint() });
        });
        const cut = () => {
            if (!this.cuts.delete(cut))
                return;
            upstream.cancel();
            client.close();
            if (!agent.destroyed)
                agent.emit('error', { code: UNAVAILABLE, details: 'cut' });
        };
        this.cuts.add(cut);
        agent.on('data', (bytes) => {
            ear.agent(session.requestDeserialize(bytes));
            if (!upstream.write(bytes))
                agent.pause();
        });
        upstream.on('drain', () => agent.resume());
        upstream.on('data', (bytes) => {
            ear.receiver(session.responseDeserialize(bytes));
            if (!agent.write(bytes))
                upstream.pause();
        });
        agent.on('drain', () => upstream.resume());
        agent.on('end', () => upstream.end());
        agent.on('cancelled', cut);
        agent.on('error', () => undefined);
        upstream.on('error', cut);
        upstream.on('end', () => {
            this.cuts.delete(cut);
            agent.end();
            client.close();
        });
    }
}
//# sourceMappingURL=relay.js.map