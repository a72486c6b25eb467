import { readFrameHeader } from '../../proto/frame_header.js';
export function noPromises() {
    return {
        durableLsn: 0n,
        generation: 0n,
        ordered: new Map(),
        bases: new Map(),
        checkpoints: new Map(),
        epoch: 0n,
        usedLsn: 0n,
    };
}
export function keep(promises, promised) {
    switch (promised.kind) {
        case 'durable': {
            if (promised.lsn <= promises.durableLsn)
                return;
            promises.durableLsn = promised.lsn;
            const range = promises.ordered.get(promises.generation);
            if (range !== undefined)
                range.lastLsn = promised.lsn;
            return;
        }
        case 'generation':
            promises.generation = promised.generation;
            return;
        case 'ordered':
            promises.ordered.set(promised.generation, { firstLsn: promised.lsn, lastLsn: promises.durableLsn });
            return;
        case 'base': {
            const { volume, generation, offset } = promised;
            promises.bases.set(volume, { generation, offset });
            return;
        }
        case 'checkpoint':
            promises.checkpoints.set(promised.name, promised.lsn);
            return;
        case 'epoch':
            if (promised.epoch > promises.epoch)
                promises.epoch = promised.epoch;
            return;
        case 'used':
            if (promised.lsn > promises.usedLsn)
                promises.usedLsn = promised.lsn;
    }
}
/** Listens to one session, and tells what is promised in it. */
export class SessionEar {
    tell;
    generation = 0n;
    volumes = new Set();
    /** Of those that are complete: the volume's first ordered LSN. */
    synced = new Map();
    checkpoints = new Map();
    begun = { generation: 0n, firstLsn: 0n };
    constructor(tell) {
        this.tell = tell;
    }
    agent(message) {
        if ('frame' in message) {
            const { buffer, headroom } = message.frame;
            this.tell({ kind: 'used', lsn: readFrameHeader(buffer.subarray(headroom)).lastLsn });
        }
        else if ('hello' in message) {
            this.tell({ kind: 'epoch', epoch: message.hello.epoch });
            this.take(message.hello.volumes);
        }
        else if ('generationBegin' in message) {
            const { generation, firstLsn, volumes } = message.generationBegin;
            this.begun = { generation, firstLsn };
            this.take(volumes);
        }
        else if ('checkpoint' in message) {
            const { requestId, name, lsn } = message.checkpoint;
            this.checkpoints.set(requestId, { name, lsn });
        }
    }
    receiver(message) {
        if ('welcome' in message) {
            this.generation = message.welcome.generation;
            this.tell({ kind: 'durable', lsn: message.welcome.durableLsn });
        }
        else if ('ack' in message) {
            this.tell({ kind: 'durable', lsn: message.ack.durableLsn });
        }
        else if ('generationAccepted' in message) {
            this.generation = message.generationAccepted.generation;
            this.synced.clear();
            this.tell({ kind: 'generation', ...this.begun });
        }
        else if ('syncAck' in message) {
            this.tell({ kind: 'base', generation: this.generation, ...message.syncAck });
        }
        else if ('syncComplete' in message) {
            const { volume, lsn } = message.syncComplete;
            this.synced.set(volume, lsn);
            // A session that goes on with a sync that another one began hears only of the rest: it promises no less.
            if (this.synced.size < this.volumes.size)
                return;
            const first = [...this.synced.values()].reduce((high, each) => (each > high ? each : high), 0n);
            this.tell({ kind: 'ordered', generation: this.generation, lsn: first });
        }
        else if ('checkpointDone' in message && message.checkpointDone.code === '') {
            const checkpoint = this.checkpoints.get(message.checkpointDone.requestId);
            if (checkpoint !== undefined)
                this.tell({ kind: 'checkpoint', ...checkpoint });
        }
    }
    take(volumes) {
        this.volumes.clear();
        for (const { number } of volumes)
            this.volumes.add(number);
    }
}
//# sourceMappingURL=promises.js.map