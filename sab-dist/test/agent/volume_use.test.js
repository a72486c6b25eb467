/** Whom the end of a volume waits for. */
import t from 'tap';
import { systemClock } from '../../agent/clock.js';
import { VolumeUse } from '../../agent/volume_use.js';
import { createLog } from '../../service/log.js';
/** On a clock without pauses. */
function scene() {
    const lines = [];
    const write = (line) => void lines.push(JSON.parse(line));
    const clock = { ...systemClock, sleep: () => new Promise((resolve) => setImmediate(resolve)) };
    return { lines, use: new VolumeUse('data', clock, createLog('agent', 'info', { write })) };
}
// Symptom: at a stop, one failed look at the loop device or its users ended the protection of a volume in use, and the
// stop of its group. If it returns, untilNone() rejects.
t.test('who uses a volume is asked again after an error, which counts as a use', async (t) => {
    const { use, lines } = scene();
    const answers = [new Error('EMFILE: too many open files'), new Error('EIO'), 'the mount on /srv', null];
    const seen = [];
    const usedBy = () => {
        seen.push(use.by);
        const answer = answers.shift() ?? null;
        return answer instanceof Error ? Promise.reject(answer) : Promise.resolve(answer);
    };
    t.equal(await use.untilNone(usedBy, new AbortController().signal), true);
    t.match(seen, [null, /^somebody unknown \(EMFILE: too many open files\)$/, /EIO/, 'the mount on /srv']);
    t.match(lines[0], { msg: /in use/, usedBy: /EMFILE/ });
    t.equal(use.by, null);
});
t.test('a second signal takes it away, also from somebody unknown', async (t) => {
    const { use, lines } = scene();
    const usedBy = () => Promise.reject(new Error('EIO'));
    t.equal(await use.untilNone(usedBy, AbortSignal.abort()), false);
    t.match(lines[0], { msg: /taken away/, usedBy: /EIO/ });
});
//# sourceMappingURL=volume_use.test.js.map