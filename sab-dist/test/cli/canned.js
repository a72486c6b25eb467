/** Canned daemons behind real control sockets, and a command line run against them in this process. */
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { agentControlService, receiverControlService, } from '../../proto/control.js';
import { run } from '../../cli/command.js';
import { RpcServer, serverStream, unary } from '../../service/rpc.js';
/** 2026-01-31T10:15:00.123456789Z */
export const TIME_NS = 1769854500123456789n;
/** Not a double. */
export const LSN = 2n ** 60n + 1n;
export async function temporary(t) {
    const directory = await mkdtemp(path.join(os.tmpdir(), 'afterimage-cli-'));
    t.teardown(() => rm(directory, { recursive: true, force: true }));
    return directory;
}
export function groupStatus(overrides = {}) {
    return {
        name: 'db',
        uuid: '6f1e0000-0000-4000-8000-000000000001',
        member: '6f1e0000-0000-4000-8000-000000000002',
        host: 'host1',
        state: 'protected',
        detail: '',
        generation: 3n,
        capturedLsn: LSN,
        shippedLsn: LSN - 10n,
        durableLsn: LSN - 20n,
        rpoLagNs: 1500000n,
        rpoLagP50Ns: 1000000n,
        rpoLagP99Ns: 9000000n,
        ringUsedBytes: 64n << 20n,
        ringBytes: 256n << 20n,
        capturedBytes: 3n << 30n,
        shippedBytes: 2n << 30n,
        journalBytes: 5n << 30n,
        windowBeginNs: TIME_NS - 3600000000000n,
        windowEndNs: TIME_NS,
        throughputBytesPerSecond: 12582912n,
        records: 1000n,
        oldestLsn: 7n,
        retentionWindowNs: 3n * 24n * 3600000000000n,
        retentionFloorNs: 4n * 3600000000000n,
        journalBytesMax: 0n,
        retentionHeldBy: '',
        volumes: [
            {
                name: 'data',
                uuid: '6f1e0000-0000-4000-8000-000000000003',
                size: 1n << 30n,
                state: 'initial-sync',
                device: '/dev/loop0',
                backing: '/dev/vg/data',
                syncBytesDone: 256n << 20n,
                syncBytesTotal: 1n << 30n,
                writeBytes: 1n << 20n,
                writes: 256n,
                reads: 1n,
                readBytes: 4096n,
                doubtBytes: 0n,
                resyncComparedBytes: 0n,
                resyncDifferingBytes: 0n,
            },
        ],
        ...overrides,
    };
}
export const agentStatus = {
    version: '0.1.0',
    host: 'host1',
    receiver: '127.0.0.1:7443',
    connected: true,
    groups: [groupStatus()],
    rssBytes: 90n << 20n,
};
export const receiverStatus = {
    scrubs: [],
    version: '0.1.0',
    store: '/var/lib/afterimage/store',
    storeBytesFree: 100n << 30n,
    listen: '127.0.0.1:7443',
    groups: [groupStatus()],
    exports: 1n,
};
export const checkpoint = {
    name: 'noon',
    group: 'db',
    lsn: LSN,
    timeNs: TIME_NS,
    consistency: 'crash',
    grade: 'ordered',
    pinned: false,
};
export const timeline = {
    group: 'db',
    spans: [
        {
            grade: 'ordered',
            member: 'm',
            host: 'host1',
            generation: 2n,
            firstLsn: 1n,
            lastLsn: 90n,
            beginNs: TIME_NS - 50n,
            endNs: TIME_NS - 40n,
            reason: '',
        },
        {
            grade: 'gap',
            member: 'm',
            host: 'host1',
            generation: 2n,
            firstLsn: 0n,
            lastLsn: 0n,
            beginNs: TIME_NS - 40n,
            endNs: TIME_NS,
            reason: 'RING_FULL',
        },
        {
            grade: 'ordered',
            member: 'm',
            host: 'host1',
            generation: 3n,
            firstLsn: 91n,
            lastLsn: LSN,
            beginNs: TIME_NS,
            endNs: 0n,
            reason: '',
        },
    ],
    checkpoints: [checkpoint],
};
export const exported = {
    id: 'e1',
    group: 'db',
    lsn: LSN,
    timeNs: TIME_NS,
    grade: 'ordered',
    writable: false,
    volumes: [
        { name: 'data', size: 1n << 30n, uri: 'nbd+unix:///data?socket=/run/x.sock', device: '' },
        { name: 'log', size: 1n << 29n, uri: '', device: '/dev/loop4' },
    ],
    openedInUs: 12300n,
    createdNs: TIME_NS,
};
export function recoverProgress(bytesDone, phase = 'copy', volume = 'data') {
    return {
        volume,
        target: `/srv/${volume}.img`,
        bytesDone,
        bytesTotal: 1000n,
        bytesWritten: bytesDone / 2n,
        phase,
        sha256: phase === 'done' ? 'ab'.repeat(32) : '',
        lsn: LSN,
        timeNs: TIME_NS,
        point: `lsn:${LSN}`,
    };
}
/** Serves RUN_DIR/receiver.sock until the test ends. */
export async function cannedReceiver(t, runDir, canned = {}) {
    const asked = [];
    const answer = (call, response) => unary((request) => {
        asked.push([call, request]);
        return canned.failure === undefined ? Promise.resolve(response) : Promise.reject(canned.failure);
    });
    const server = new RpcServer();
    server.add(receiverControlService, {
        status: answer('status', receiverStatus),
        timeline: answer('timeline', timeline),
        point: answer('point', {
            group: 'db',
            lsn: LSN,
            timeNs: TIME_NS,
            grade: 'ordered',
            member: 'm',
        }),
        checkpointCreate: canned.checkpointCreate === undefined
            ? answer('checkpointCreate', checkpoint)
            : unary(canned.checkpointCreate),
        checkpointList: answer('checkpointList', { checkpoints: [checkpoint] }),
        checkpointPin: answer('checkpointPin', { ...checkpoint, pinned: true }),
        checkpointDelete: answer('checkpointDelete', {}),
        exportOpen: answer('exportOpen', exported),
        exportList: answer('exportList', { exports: [exported] }),
        exportClose: answer('exportClose', {}),
        scrub: serverStream(async function* (request) {
            asked.push(['scrub', request]);
            if (canned.scrub !== undefined)
                yield* canned.scrub();
        }),
        recover: serverStream(async function* (request, context) {
            asked.push(['recover', request]);
            if (canned.failure !== undefined)
                throw canned.failure;
            if (canned.recover !== undefined)
                yield* canned.recover(request, context);
        }),
    });
    await server.listenUnix(path.join(runDir, 'receiver.sock'));
    t.teardown(() => server.stop(0));
    return asked;
}
/** Serves RUN_DIR/agent.sock until the test ends. */
export async function cannedAgent(t, runDir, canned = {}) {
    const asked = [];
    const answer = (response) => canned.failure === undefined ? Promise.resolve(response) : Promise.reject(canned.failure);
    const server = new RpcServer();
    server.add(agentControlService, {
        status: unary(() => answer(agentStatus)),
        checkpointCreate: unary((request) => {
            asked.push(['checkpointCreate', request]);
            return answer(checkpoint);
        }),
    });
    await server.listenUnix(path.join(runDir, canned.socket ?? 'agent.sock'));
    t.teardown(() => server.stop(0));
    return asked;
}
export class Recorder {
    isTerminal;
    onWrite;
    text = '';
    columns = 100;
    constructor(isTerminal, onWrite = () => undefined) {
        this.isTerminal = isTerminal;
        this.onWrite = onWrite;
    }
    write(text) {
        this.text += text;
        this.onWrite(text);
    }
}
/** Runs `afterimage ARGV`; the sockets are in `runDir`. */
export async function invoke(runDir, argv, overrides = {}) {
    const stdout = new Recorder(false);
    const stderr = new Recorder(false);
    const never = new AbortController().signal;
    const surroundings = {
        env: { AFTERIMAGE_RUN_DIR: runDir },
        cwd: runDir,
        stdout,
        stderr,
        ask: null,
        stop: { drain: never, end: never },
        sleep: async (ms, signal) => {
            await delay(ms, undefined, { signal }).catch(() => undefined);
        },
        now: () => Number(TIME_NS / 1000000n),
        daemons: noDaemons,
        version: '0.1.0',
        ...overrides,
    };
    const status = await run(argv, surroundings);
    const written = (output) => (output instanceof Recorder ? output.text : '');
    return { status, stdout: written(surroundings.stdout), stderr: written(surroundings.stderr) };
}
function unexpected() {
    return Promise.reject(new Error('no daemon is run here'));
}
export const noDaemons = {
    checkAgent: unexpected,
    checkReceiver: unexpected,
    runAgent: unexpected,
    supervise: unexpected,
    runReceiver: unexpected,
    initReceiver: unexpected,
    checkStore: unexpected,
    storeOf: unexpected,
};
//# sourceMappingURL=canned.js.map