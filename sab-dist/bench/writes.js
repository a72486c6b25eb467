/** Writes to a protected volume against the same file served without protection. */
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { agentControlService } from '../proto/control.js';
import { RpcClient } from '../service/rpc.js';
import { fio } from './fio.js';
import { undisturbed } from './calm.js';
import { BenchVolume } from './volume.js';
const DURABLE_SECONDS_MAX = 1;
const WAIT_SECONDS_MAX = 60;
const SATURATION_TRIES_MAX = 6;
/** Runs the load on the protected volume, and checks what makes the figure honest: see `broken`. */
async function onOurs(site, target, load) {
    // One connection for all: a new process for each question would take longer than what is measured.
    const client = await RpcClient.openControl(site.agentControl);
    const status = async () => {
        const { groups } = await client.callUnary(agentControlService.status, {}, { timeoutMs: 10_000 });
        const group = groups[0];
        if (group === undefined)
            throw new Error('the agent has no group');
        return group;
    };
    try {
        const before = await status();
        const figures = await fio(target, load);
        const broken = await becomesDurable(status, before.generation);
        return { figures, broken };
    }
    finally {
        client.close();
    }
}
/** Waits until everything is durable at the receiver; tells what keeps the run from counting. */
async function becomesDurable(status, generation) {
    const end = performance.now();
    for (;;) {
        const group = await status();
        if (group.generation !== generation || group.state !== 'protected') {
            return [`the group is ${group.state} in generation ${group.generation}`];
        }
        const seconds = (performance.now() - end) / 1000;
        if (group.durableLsn === group.capturedLsn) {
            return seconds > DURABLE_SECONDS_MAX ? [`durable ${seconds.toFixed(1)} s after the end`] : [];
        }
        if (seconds > WAIT_SECONDS_MAX)
            return [`not durable after ${WAIT_SECONDS_MAX} s`];
        await sleep(10);
    }
}
function writeMeasurement(write) {
    return {
        name: write.name,
        unit: write.unit,
        peerName: write.attach === 'socket' ? 'nbdkit file, not replicated, buffered' : 'plain loop device, buffered',
        bar: write.bar,
        async run(scale, progress) {
            const volume = await BenchVolume.create(scale.volumeBytes);
            try {
                const load = write.load(scale);
                const ours = [];
                const peer = [];
                const unprotected = async (target) => ({
                    value: write.value(await fio(target, load)),
                    broken: [],
                });
                for (let pair = 0; pair < scale.pairs; pair += 1) {
                    const mine = await undisturbed(() => volume.protected(write.attach, async (site, target) => {
                        const { figures, broken } = await onOurs(site, target, load);
                        return { value: write.value(figures), broken };
                    }), progress);
                    const theirs = await undisturbed(() => (write.attach === 'socket' ? volume.nbdkit(unprotected) : volume.plainLoop(unprotected)), progress);
                    ours.push(mine);
                    peer.push(theirs);
                    progress(`pair ${pair + 1}: ours ${mine.value.toFixed(0)}, peer ${theirs.value.toFixed(0)} ${write.unit}`);
                }
                return { ours, peer };
            }
            finally {
                await volume.clean();
            }
        },
    };
}
const random4k = (depth) => (scale) => ({
    rw: 'randwrite',
    blockBytes: 4096,
    depth,
    seconds: scale.seconds,
});
const burst = (scale) => ({
    rw: 'write',
    blockBytes: 256 << 10,
    depth: 16,
    bytes: scale.burstBytes,
});
const iops = { unit: 'IOPS', value: (figures) => figures.iops };
const rate = { unit: 'MB/s', value: (figures) => figures.bytesPerSecond / 1e6 };
export const writeMeasurements = [
    { name: 'nbd-randwrite-qd32', attach: 'socket', bar: 0.5, load: random4k(32), ...iops },
    { name: 'nbd-randwrite-qd1', attach: 'socket', bar: null, load: random4k(1), ...iops },
    { name: 'nbd-burst', attach: 'socket', bar: null, load: burst, ...rate },
    { name: 'loop-randwrite-qd32', attach: 'loop', bar: null, load: random4k(32), ...iops },
    { name: 'loop-burst', attach: 'loop', bar: null, load: burst, ...rate },
].map(writeMeasurement);
/** Lowers the rate until the replica keeps up: what saturates is what is protected, not what the ring swallows. */
async function saturatingRate(volume, load, progress) {
    let rate = null;
    for (let tries = 0; tries < SATURATION_TRIES_MAX; tries += 1) {
        const limited = rate === null ? load : { ...load, rate };
        const { figures, broken } = await volume.protected('socket', (site, target) => onOurs(site, target, limited));
        progress(`${figures.iops.toFixed(0)} IOPS ${broken.length === 0 ? 'saturate' : `: ${broken.join('; ')}`}`);
        if (broken.length === 0)
            return figures.iops;
        rate = figures.iops * 0.8;
    }
    throw new Error(`no rate was found that the replica keeps up with in ${SATURATION_TRIES_MAX} tries`);
}
/** Lag at half of the load that saturates: what an administrator sees on a host that has room. */
export const rpo = {
    name: 'rpo',
    unit: 'ms (p99)',
    peerName: null,
    bar: null,
    async run(scale, progress) {
        const volume = await BenchVolume.create(scale.volumeBytes);
        try {
            const full = random4k(32)(scale);
            const rate = (await saturatingRate(volume, full, progress)) / 2;
            const ours = [];
            for (let round = 0; round < scale.pairs; round += 1) {
                // A new agent each time: its histogram holds this load alone.
                const run = () => volume.protected('socket', async (site, target) => {
                    const { broken } = await onOurs(site, target, { ...full, rate });
                    return { value: Number((await site.agentGroup()).rpoLagP99Ns) / 1e6, broken };
                });
                const sample = await undisturbed(run, progress);
                ours.push(sample);
                progress(`round ${round + 1}: p99 ${sample.value.toFixed(1)} ms`);
            }
            return { ours, peer: [] };
        }
        finally {
            await volume.clean();
        }
    },
};
/** What the agent occupies after a run that saturates it, beside the bound that its configuration sets for the ring. */
export const agentMemory = {
    name: 'agent-memory',
    unit: 'MiB (PSS)',
    peerName: null,
    bar: null,
    async run(scale, progress) {
        const volume = await BenchVolume.create(scale.volumeBytes);
        try {
            const load = random4k(32)(scale);
            const sample = await volume.protected('socket', async (site, target) => {
                const { broken } = await onOurs(site, target, load);
                const { ringBytes } = await site.agentGroup();
                const mib = await proportionalSet(site.agent.pid);
                progress(`${mib.toFixed(0)} MiB; the ring is ${(ringBytes / 2 ** 20).toFixed(0)} MiB of it at most`);
                return { value: mib, broken, steal: 0 };
            });
            return { ours: [sample], peer: [] };
        }
        finally {
            await volume.clean();
        }
    },
};
/** MiB. Not the resident set: that counts the ring's pages twice, since they are mapped twice. */
async function proportionalSet(pid) {
    const rollup = await readFile(`/proc/${pid}/smaps_rollup`, 'utf8');
    return Number(/^Pss:\s+(\d+) kB/m.exec(rollup)?.[1]) / 1024;
}
//# sourceMappingURL=writes.js.map