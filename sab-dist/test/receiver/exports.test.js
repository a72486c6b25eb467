import path from 'node:path';
import pino from 'pino';
import t, {} from 'tap';
import { AfterimageError } from '../../proto/errors.js';
import { Exports } from '../../receiver/exports.js';
import { exportOf } from './synced_scene.js';
const never = new AbortController().signal;
/** One volume; opening its server takes 700 µs by the clock of the test. */
function scene(test, read) {
    let nowUs = 0;
    const device = { size: 4096n, blockSize: 512, readOnly: true, read, close: () => Promise.resolve() };
    const position = { lsn: 7n, timeNs: 1n };
    const parts = {
        points: {
            resolve: () => Promise.resolve({ group: { name: 'db' }, positions: [position], grade: 'damaged' }),
            volumes: () => ({
                volumes: [
                    {
                        volume: { name: 'data' },
                        open: () => Promise.resolve(device),
                    },
                ],
                release: () => undefined,
            }),
        },
        native: {
            startNbdServer: () => {
                nowUs += 700;
                return Promise.resolve({ address: 'unix:', connections: 0, stop: () => Promise.resolve() });
            },
        },
        scratchDirectory: '',
        runDirectory: path.join(test.testdir(), 'run'),
        nowNs: () => 1n,
        elapsedUs: () => nowUs,
        newId: () => 'a1',
        log: pino({ level: 'silent' }),
    };
    return new Exports(parts);
}
t.test('the time of opening ends when the export is served', async (t) => {
    const { openedInUs } = await scene(t, () => Promise.resolve()).start(exportOf('latest'), never);
    t.equal(openedInUs, 700n);
});
t.test('a damaged first block does not keep the others from who takes them by force', async (t) => {
    const damaged = () => Promise.reject(new AfterimageError('IO_ERROR', 'read'));
    await t.rejects(scene(t, damaged).start(exportOf('latest'), never), { code: 'IO_ERROR' });
    const forced = { ...exportOf('latest'), force: true };
    t.match(await scene(t, damaged).start(forced, never), { id: 'a1', grade: 'damaged' });
});
//# sourceMappingURL=exports.test.js.map