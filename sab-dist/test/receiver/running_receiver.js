/** A receiver in this process, on a store of its own, with its control socket. */
import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import pino from 'pino';
import { receiverControlService, } from '../../proto/control.js';
import { runReceiver } from '../../receiver/main.js';
import { Store } from '../../receiver/store.js';
import { RpcClient } from '../../service/rpc.js';
import { parseConfig } from '../../service/config.js';
import { receiverConfigSchema } from '../../receiver/config.js';
import { setTimeout as sleep } from 'node:timers/promises';
const TIMEOUT_MS = 30_000;
const MIB = 1024 * 1024;
export class RunningReceiver {
    directory;
    store;
    drain = new AbortController();
    running = null;
    client = null;
    address = '';
    constructor(directory, store) {
        this.directory = directory;
        this.store = store;
    }
    /** A new store in a directory that goes with the test, and a receiver on it. */
    static async start(test) {
        const receiver = await RunningReceiver.prepare(test);
        await Store.init(receiver.store, randomUUID());
        await receiver.run();
        return receiver;
    }
    /** One that does not run yet, in a directory that goes with the test; `store` is to be made in it. */
    static async prepare(test) {
        const directory = await mkdtemp(path.join(tmpdir(), 'afterimage-receiver-'));
        const receiver = new RunningReceiver(directory, path.join(directory, 'store'));
        test.teardown(async () => {
            await receiver.stop();
            await rm(directory, { recursive: true, force: true });
        });
        return receiver;
    }
    /** `more`: lines of its configuration. */
    async run(more = '', overrides = {}) {
        const config = parseConfig(`store = "${this.store}"\nlisten = "127.0.0.1:0"\nrun_dir = "${this.directory}/run"\nsegment_bytes = ${4 * MIB}\n${more}`, 'receiver.toml', receiverConfigSchema);
        this.drain = new AbortController();
        const signals = { drain: this.drain.signal, end: new AbortController().signal };
        const log = pino({ level: process.env['TEST_LOG'] ?? 'silent' }, pino.destination(2));
        this.running = runReceiver(config, signals, '0', { log, ...overrides });
        // Awaited by stop(); a failure to start is told by the socket that never comes.
        this.running.catch(() => undefined);
        const deadline = Date.now() + TIMEOUT_MS;
        for (;;) {
            try {
                this.client = await RpcClient.openControl(config.control);
                break;
            }
            catch (thrown) {
                if (Date.now() > deadline)
                    throw thrown;
                await Promise.race([sleep(10), this.running]);
            }
        }
        this.address = (await this.status()).listen;
    }
    async stop() {
        this.client?.close();
        this.client = null;
        this.drain.abort();
        await this.running;
        this.running = null;
    }
    status() {
        return this.call('status', {});
    }
    call(name, request, signal = new AbortController().signal) {
        if (this.client === null)
            throw new Error('the receiver does not run');
        const method = receiverControlService[name];
        return this.client.callUnary(method, request, { timeoutMs: TIMEOUT_MS, signal });
    }
    /** Recovers; returns the messages. */
    recover(request) {
        const whole = {
            group: 'db',
            volume: 'data',
            point: 'latest',
            target: '',
            overwrite: false,
            force: false,
        };
        return this.stream('recover', { ...whole, ...request });
    }
    /** The messages of a call that answers with several. */
    async stream(name, request, signal) {
        if (this.client === null)
            throw new Error('the receiver does not run');
        const messages = [];
        const options = { timeoutMs: TIMEOUT_MS, ...(signal === undefined ? {} : { signal }) };
        const method = receiverControlService[name];
        for await (const message of this.client.callStream(method, request, options)) {
            messages.push(message);
        }
        return messages;
    }
}
//# sourceMappingURL=running_receiver.js.map