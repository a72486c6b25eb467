/**
 * On the kernels that people run, whether they can send requests again (6.12) or not (6.1): an agent that is killed six times
 * in a row is not noticed (R7, guest/survival.ts), whether the bundled supervisor or systemd keeps what must outlive it, and
 * protection is put under a mounted device-mapper device and taken out again, also after the agent was killed for good
 * (guest/insertion.ts). Of the machines one is run, another one each day; all with AFTERIMAGE_VM=all.
 */
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { skipUnless } from '../prerequisite.js';
import { KERNEL_SERIES, stockKernel, type Kernel, type KernelSeries } from './kernel.js';
import { missingPrograms, runInGuest } from './machine.js';
import { systemdLayer } from './systemd_layer.js';

/** Three minutes of processor time; six to nine were seen where ten other processes wanted the same two processors. */
const SECONDS_MAX = 840;
const DAY_MS = 86_400_000;

interface Case {
  scenario: 'survival' | 'insertion';
  series: KernelSeries;
  attach: 'loop' | 'nbd';
  manager: 'supervisor' | 'systemd';
}

const everything: Case[] = (['survival', 'insertion'] as const).flatMap((scenario) =>
  KERNEL_SERIES.flatMap((series) =>
    (['loop', 'nbd'] as const).map((attach) => ({
      scenario,
      series,
      attach,
      manager: 'supervisor' as const,
    })),
  ),
);
everything.push({ scenario: 'survival', series: '6.1', attach: 'loop', manager: 'systemd' });
const today = everything.filter((_, index) => index === Math.floor(Date.now() / DAY_MS) % everything.length);
const missing = missingPrograms();
const noPrograms = skipUnless(missing.length === 0, missing.join(', '));

/** In the name of a failed test, which is what is read first, and at times all that is kept. */
function lastWords(console: string): string {
  return console.trim().split('\n').slice(-6).join(' | ').slice(-600);
}

t.setTimeout((SECONDS_MAX + 60) * everything.length * 1000);

for (const { scenario, series, attach, manager } of process.env['AFTERIMAGE_VM'] === 'all'
  ? everything
  : today) {
  const kernel = missing.length === 0 ? await stockKernel(series) : null;
  const noKernel = kernel === null && `the package sources have no kernel ${series}, or cannot be reached`;
  const systemd = manager === 'systemd' && kernel !== null ? await systemdLayer() : null;
  const noSystemd =
    manager === 'systemd' &&
    systemd === null &&
    'the package sources have no systemd and udev, or cannot be reached';
  const title = `${scenario}, Linux ${series}, attach = "${attach}", ${manager}`;
  t.test(title, { skip: noPrograms || noKernel || noSystemd }, async (t) => {
    const program = fileURLToPath(new URL(`guest/${scenario}.js`, import.meta.url));
    const words = [process.execPath, program, attach, manager];
    const { status, console, machineEnd } = await runInGuest(kernel as Kernel, systemd, words, SECONDS_MAX);
    t.comment(console);
    const hasEndedWell = status === 0 && machineEnd === 0;
    t.ok(hasEndedWell, hasEndedWell ? 'nobody noticed' : `QEMU: ${machineEnd}; ${lastWords(console)}`);
  });
}
