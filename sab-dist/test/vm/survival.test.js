/**
 * On the kernels that people run: an agent that is killed six times in a row is not noticed (R7), whether the kernel can
 * send requests again (6.12) or not (6.1). Of the machines one is run, another one each day; all with AFTERIMAGE_VM=all.
 */
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { skipUnless } from '../prerequisite.js';
import { KERNEL_SERIES, stockKernel } from './kernel.js';
import { missingPrograms, runInGuest } from './machine.js';
const GUEST_PROGRAM = fileURLToPath(new URL('guest/survival.js', import.meta.url));
/** Three minutes of processor time; six to nine were seen where ten other processes wanted the same two processors. */
const SECONDS_MAX = 840;
const DAY_MS = 86_400_000;
const everything = KERNEL_SERIES.flatMap((series) => ['loop', 'nbd'].map((attach) => ({ series, attach })));
const today = everything.filter((_, index) => index === Math.floor(Date.now() / DAY_MS) % everything.length);
const missing = missingPrograms();
const noPrograms = skipUnless(missing.length === 0, missing.join(', '));
t.setTimeout((SECONDS_MAX + 60) * everything.length * 1000);
for (const { series, attach } of process.env['AFTERIMAGE_VM'] === 'all' ? everything : today) {
    const kernel = missing.length === 0 ? await stockKernel(series) : null;
    const noKernel = kernel === null && `the package sources have no kernel ${series}, or cannot be reached`;
    t.test(`Linux ${series}, attach = "${attach}"`, { skip: noPrograms || noKernel }, async (t) => {
        const words = [process.execPath, GUEST_PROGRAM, attach];
        const { status, console } = await runInGuest(kernel, words, SECONDS_MAX);
        t.comment(console);
        t.equal(status, 0, 'nobody noticed');
    });
}
//# sourceMappingURL=survival.test.js.map