/** A store that real sessions have filled, copied for each fault, checked, and opened again by a real receiver. */
import { cp, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import pino from 'pino';
import * as native from '../../../native/index.js';
import { StoreCheck } from '../../../receiver/fsck/store_check.js';
import { RunningReceiver } from '../running_receiver.js';
import { journalDirectory, synced, writeMore } from '../synced_scene.js';
const KIB = 1024;
/** Three segments of 4 MiB and a beginning. */
const LARGE_WRITES = 52;
/** A store with one member, whose receiver has stopped. */
export async function filledStore(test) {
    const scene = await synced(test);
    const { agent, stream, receiver } = scene;
    await writeMore(scene, 5);
    for (let index = 0; index < LARGE_WRITES; index += 1) {
        await agent.write((index % 15) * 256 * KIB, randomBytes(256 * KIB));
    }
    const last = agent.position().lsn;
    for (const frame of await agent.framesUpTo(last))
        stream.ship(frame);
    await stream.hearAck(last);
    const journal = path.relative(receiver.store, journalDirectory(scene));
    const sealed = async () => (await readdir(path.join(receiver.store, journal))).filter((name) => name.endsWith('.run')).length;
    for (const deadline = Date.now() + 10_000; (await sealed()) < 3; await sleep(20)) {
        if (Date.now() > deadline)
            throw new Error('the runs were never built');
    }
    await receiver.stop();
    const directory = await mkdtemp(path.join(tmpdir(), 'afterimage-filled-'));
    test.teardown(() => rm(directory, { recursive: true, force: true }));
    await cp(receiver.store, directory, { recursive: true });
    const names = await readdir(path.join(directory, journal));
    return {
        scene,
        directory,
        journal,
        base: path.join(path.dirname(journal), 'base'),
        segments: names.filter((name) => name.endsWith('.seg')).sort(),
    };
}
/** A copy of the store that a test may break. */
export class BrokenStore {
    filled;
    receiver;
    constructor(filled, receiver) {
        this.filled = filled;
        this.receiver = receiver;
    }
    static async of(test, filled) {
        const receiver = await RunningReceiver.prepare(test);
        await cp(filled.directory, receiver.store, { recursive: true });
        return new BrokenStore(filled, receiver);
    }
    get directory() {
        return this.receiver.store;
    }
    journalFile(name) {
        return path.join(this.directory, this.filled.journal, name);
    }
    segment(index) {
        const name = this.filled.segments.at(index);
        if (name === undefined)
            throw new Error(`there is no segment ${index}`);
        return this.journalFile(name);
    }
    get base() {
        const { uuid } = this.filled.scene.agent.info;
        const name = uuid.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
        return path.join(this.directory, this.filled.base, `${name}.img`);
    }
    check(repair = false) {
        return checkStore(this.directory, repair);
    }
    /** Every file: its size and when it was changed. */
    async files() {
        const names = await readdir(this.directory, { recursive: true });
        const found = {};
        for (const name of names.sort()) {
            const { size, mtimeNs } = await stat(path.join(this.directory, name), { bigint: true });
            found[name] = `${size} ${mtimeNs}`;
        }
        return found;
    }
    /** Starts a receiver and compares points that it calls `ordered` with what the volume was. Returns the grades. */
    async judge(test) {
        const { receiver, filled } = this;
        await receiver.run();
        const { spans } = await receiver.call('timeline', { group: 'db' });
        const lsns = [...filled.scene.agent.states.keys()];
        let compared = 0;
        for (const { firstLsn, lastLsn } of spans.filter(({ grade }) => grade === 'ordered')) {
            const within = lsns.filter((lsn) => firstLsn <= lsn && lsn <= lastLsn);
            for (const [index, lsn] of within.entries()) {
                if (index % 8 !== 0 && index !== within.length - 1)
                    continue;
                const target = path.join(receiver.directory, `point-${lsn}`);
                await receiver.recover({ point: `lsn:${lsn}`, target });
                const isRight = (await readFile(target)).equals(filled.scene.agent.states.get(lsn) ?? Buffer.alloc(0));
                if (!isRight)
                    test.fail(`the point ${lsn} is called ordered and is wrong`);
                await rm(target);
                compared += 1;
            }
        }
        test.comment(`${compared} points compared`);
        await receiver.stop();
        return spans.map(({ grade, firstLsn, lastLsn }) => `${grade} ${firstLsn}-${lastLsn}`);
    }
}
/** What fsck says of a store whose receiver does not run. */
export async function checkStore(directory, repair = false) {
    const check = await StoreCheck.open({
        ...{ native, rate: null, progress: () => undefined, signal: new AbortController().signal },
        nowMs: () => performance.now(),
        sleep: (ms) => sleep(ms),
        log: pino({ level: process.env['TEST_LOG'] ?? 'silent' }, pino.destination(2)),
    }, directory);
    try {
        const report = await check.check();
        return repair ? await check.repair() : report;
    }
    finally {
        check.close();
    }
}
export const codesOf = ({ findings }) => findings.map(({ code }) => code);
/** Changes one byte. */
export async function flip(file, at) {
    const bytes = await readFile(file);
    bytes.writeUInt8(bytes.readUInt8(at) ^ 0x10, at);
    await writeFile(file, bytes);
}
//# sourceMappingURL=checked_store.js.map