/** The backing file that ours and the peer take turns on, and the two ways to serve it. */
import { spawn } from 'node:child_process';
import { access } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { command, ended } from '../test/scenario/command.js';
import { Scratch } from '../test/scenario/scratch.js';
import { Site } from '../test/scenario/site.js';
export const GROUP = 'bench';
export const VOLUME = 'volume';
export class BenchVolume {
    scratch;
    file;
    constructor(scratch, file) {
        this.scratch = scratch;
        this.file = file;
    }
    /** A file of `bytes` bytes, written once from end to end so that neither side pays for first touches. */
    static async create(bytes) {
        const scratch = await Scratch.create('bench');
        const file = scratch.path('volume.img');
        await command('dd', ['if=/dev/zero', `of=${file}`, 'bs=1M', `count=${bytes >> 20}`, 'conv=fsync'], {
            secondsMax: 600,
        });
        return new BenchVolume(scratch, file);
    }
    /** Serves it protected, replicating to a receiver of its own; runs `use`; stops everything. */
    async protected(attach, use) {
        const scratch = await Scratch.create('bench-ours');
        try {
            const site = await Site.create(scratch, {
                group: GROUP,
                volumes: [{ name: VOLUME, backing: this.file, attach }],
            });
            await site.start();
            const group = await site.settled(600);
            const device = group.volumes[0]?.device ?? '';
            const target = attach === 'loop' ? { device } : { uri: `nbd+unix:///?socket=${device.replace(/^unix:/, '')}` };
            return await use(site, target);
        }
        finally {
            await scratch.clean();
        }
    }
    /** nbdkit's file plugin over a Unix socket: served, not replicated. Buffered, like ours by default. */
    async nbdkit(use) {
        const socket = this.scratch.path('nbdkit.sock');
        await command('rm', ['-f', socket]);
        const child = spawn('nbdkit', ['--foreground', '--unix', socket, 'file', this.file], { stdio: 'ignore' });
        try {
            for (let tries = 0; tries < 200; tries += 1) {
                if (await access(socket).then(() => true, () => false))
                    break;
                await sleep(25);
            }
            return await use({ uri: `nbd+unix:///?socket=${socket}` });
        }
        finally {
            child.kill('SIGTERM');
            await ended(child, 20);
        }
    }
    /** A plain loop device with direct I/O off, as ours writes through the page cache by default. */
    async plainLoop(use) {
        const device = (await command('losetup', ['--find', '--show', this.file])).stdout.trim();
        try {
            return await use({ device });
        }
        finally {
            await command('losetup', ['-d', device]);
        }
    }
    clean() {
        return this.scratch.clean();
    }
}
//# sourceMappingURL=volume.js.map