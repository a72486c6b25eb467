import t from 'tap';
import { Checkpoints } from '../../agent/checkpoints.js';
import { systemClock } from '../../agent/clock.js';
t.test('a checkpoint that takes long is under way, and says so', async (t) => {
    // It was DAEMON_TIMEOUT, "try again": whoever did was told that the name is taken.
    const clock = { ...systemClock, sleep: () => Promise.resolve() };
    const asked = [];
    const checkpoints = new Checkpoints((_requestId, name) => void asked.push(name), clock);
    await t.rejects(checkpoints.create('before'), { code: 'CHECKPOINT_PENDING', message: /checkpoint before/ });
    t.same(asked, ['before']);
    await t.rejects(checkpoints.create('.before'), { code: 'CHECKPOINT_INVALID' });
});
//# sourceMappingURL=checkpoints.test.js.map