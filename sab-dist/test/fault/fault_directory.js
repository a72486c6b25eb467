/**
 * A directory whose every change is recorded, and in which operations go wrong on demand: starts and stops the program
 * fault_directory.cc, and speaks with it. What it can do, and what it is not, is told there.
 */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import net from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { command, ended } from '../scenario/command.js';
import { readOperationLog } from './operation_log.js';
const SOURCES = fileURLToPath(new URL('../../../test/fault', import.meta.url));
const PROGRAM = fileURLToPath(new URL('../../../build/fault/fault-directory', import.meta.url));
const START_MS_MAX = 10_000;
const STOP_SECONDS_MAX = 30;
export class FaultDirectory {
    child;
    backing;
    mount;
    log;
    control;
    constructor(child, 
    /** What it shows, without faults. */
    backing, 
    /** Where it shows it. */
    mount, 
    /** The file that it records to. */
    log, control) {
        this.child = child;
        this.backing = backing;
        this.mount = mount;
        this.log = log;
        this.control = control;
    }
    /**
     * One below `scratch`, gone with it: new and empty, or of what is in `existing`, which is its own from then on. Builds the
     * program where it is out of date.
     */
    static async start(scratch, name, existing = null) {
        await command('make', ['-s', '-C', SOURCES], { secondsMax: 300 });
        const at = (suffix) => scratch.path(`${name}.${suffix}`);
        const [backing, log, control] = [existing ?? at('backing'), at('operations'), at('control')];
        const mount = scratch.path(name);
        if (existing === null)
            await mkdir(backing);
        await mkdir(mount);
        const child = spawn(PROGRAM, [backing, mount, log, control], {
            stdio: ['ignore', 'ignore', 'inherit'],
            detached: true, // a Ctrl-C in the terminal is for whoever started it, who still needs it to stop what uses it
        });
        const directory = new FaultDirectory(child, backing, mount, log, control);
        scratch.defer(`fault directory ${name}`, () => directory.stop());
        for (const deadline = Date.now() + START_MS_MAX; !(await directory.answers());) {
            if (child.exitCode !== null || Date.now() > deadline)
                throw new Error('fault-directory did not start');
            await sleep(20);
        }
        return directory;
    }
    /** Returns the rule's number. */
    async add(rule) {
        const words = Object.entries(rule).map(([key, value]) => `${key}=${value}`);
        const [answer = ''] = await this.ask(`add ${words.join(' ')}`);
        return Number(answer.slice('ok '.length));
    }
    /** One rule, or all of them. */
    async clear(id = 0) {
        await this.ask(`clear ${id}`);
    }
    async report() {
        const lines = await this.ask('report');
        return lines.slice(0, -1).map((line) => {
            const [id = 0, seen = 0, struck = 0] = line.split(' ').map(Number);
            return { id, seen, struck };
        });
    }
    /** The number of the last moment so far. */
    async moment() {
        const [answer = ''] = await this.ask('moment');
        return Number(answer.slice('ok '.length));
    }
    /** All that was recorded up to now. */
    async operations() {
        if (existsSync(this.control) && this.child.exitCode === null)
            await this.ask('flush');
        return readOperationLog(this.log);
    }
    /** Unmounts it: whoever uses it must have ended. The record stays. */
    async stop() {
        if (this.child.exitCode !== null || this.child.signalCode !== null)
            return;
        this.child.kill('SIGTERM');
        const status = await ended(this.child, STOP_SECONDS_MAX);
        await rm(this.control, { force: true });
        if (status !== 0) {
            await command('umount', ['-l', this.mount], { accept: [1, 32] });
            throw new Error(`fault-directory ended with ${status}`);
        }
    }
    async answers() {
        if (!existsSync(this.control))
            return false;
        const { status } = await command('mountpoint', ['-q', this.mount], { accept: [1, 32] });
        return status === 0;
    }
    /** The lines of an answer; the last one is "ok …". */
    async ask(line) {
        const socket = net.createConnection(this.control);
        let text = '';
        try {
            for await (const chunk of (socket.write(`${line}\n`), socket)) {
                text += String(chunk);
                const lines = text.trimEnd().split('\n');
                const last = lines.at(-1) ?? '';
                if (!text.endsWith('\n'))
                    continue;
                if (last.startsWith('error '))
                    throw new Error(`fault-directory: ${last}`);
                if (last === 'ok' || last.startsWith('ok '))
                    return lines;
            }
        }
        finally {
            socket.destroy();
        }
        throw new Error(`fault-directory gave no answer to: ${path.basename(this.control)} ${line}`);
    }
}
//# sourceMappingURL=fault_directory.js.map