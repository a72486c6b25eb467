/**
 * A real host: Debian with systemd as its first process, from its installation of the package to its removal, in three boots
 * (guest/scenario.ts). `npm run test:host`; every third day `npm test` has it too.
 */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import t from 'tap';
import { skipUnless } from '../prerequisite.js';
import { command } from '../scenario/command.js';
import { stockKernel } from '../vm/kernel.js';
import { missingPrograms } from '../vm/machine.js';
import { modulesOf } from '../vm/modules.js';
import { boot, HOST_MODULES, packInitramfs } from './machine.js';
import { bareHost, imageOf } from './root_filesystem.js';

const BOOT_SECONDS_MAX = 900;
const BOOTS = 3;
const GUEST = 'test/host/guest';

const missing = missingPrograms();
const noPrograms = skipUnless(missing.length === 0, missing.join(', '));
const kernel = missing.length === 0 ? await stockKernel('6.1') : null;
const host = kernel === null ? null : await bareHost();
const noHost = host === null && 'the package sources have no kernel or no base system, or cannot be reached';

t.setTimeout((BOOT_SECONDS_MAX + 60) * BOOTS * 1000);

t.test(
  'installed, joined, rebooted, killed, upgraded, stopped and removed',
  { skip: noPrograms || noHost },
  async (t) => {
    if (kernel === null || host === null) return;
    const directory = await mkdtemp(path.join(os.tmpdir(), 'afterimage-host-'));
    t.teardown(() => rm(directory, { recursive: true, force: true }));
    const version = '0.1.0';
    const newer = '0.1.1~newer';
    for (const one of [version, newer])
      await command('scripts/package', ['--deb', '--fast', '--out', directory, '--version', one], {
        secondsMax: 300,
      });
    const { stdout } = await command('dpkg', ['--print-architecture']);
    const deb = (one: string): string => path.join(directory, `afterimage_${one}_${stdout.trim()}.deb`);

    const modules = path.join(directory, 'modules');
    await mkdir(modules);
    await modulesOf(kernel, HOST_MODULES, modules);
    await command('depmod', ['--basedir', modules, kernel.release]);
    const root = path.join(directory, 'root.img');
    const files = {
      'opt/host-test/afterimage.deb': deb(version),
      'opt/host-test/newer.deb': deb(newer),
      'opt/host-test/run': `${GUEST}/run`,
      'opt/host-test/scenario.js': 'dist/test/host/guest/scenario.js',
      'opt/host-test/package.json': 'package.json',
      'etc/systemd/system/host-test.service': `${GUEST}/host-test.service`,
      'usr/lib/modules': path.join(modules, 'lib/modules'),
    };
    await imageOf(host, files, root, '4G');
    const disk = path.join(directory, 'disk.img');
    await command('truncate', ['-s', '256M', disk]);
    const initramfs = await packInitramfs(kernel, directory);

    for (let at = 1; at <= BOOTS; at += 1) {
      const begin = Date.now();
      const { console, machineEnd } = await boot(
        kernel,
        initramfs,
        [root, disk],
        directory,
        BOOT_SECONDS_MAX,
      );
      const lines = console.split('\n').filter((line) => line.startsWith('host: '));
      for (const line of lines.filter((one) => one.startsWith('host: note'))) t.comment(line);
      for (const line of lines.filter((one) => /^host: (ok|FAILED)/.test(one)))
        t.ok(line.startsWith('host: ok'), line.slice(6));
      const last = at === BOOTS ? 'host: done' : 'host: the machine is switched off';
      const isOver = lines.includes(last);
      t.ok(
        isOver,
        `boot ${at} came to its end in ${Math.round((Date.now() - begin) / 1000)} s (${machineEnd})`,
      );
      if (isOver) continue;
      t.comment(console.trim().split('\n').slice(-60).join('\n'));
      return;
    }
  },
);
