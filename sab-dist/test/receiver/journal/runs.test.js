import t from 'tap';
import * as native from '../../../native/index.js';
import { AfterimageError } from '../../../proto/errors.js';
import { RunBuilds } from '../../../receiver/journal/runs.js';
import { JournalSite } from './journal_site.js';
t.test('a disk that was full for a while: runs are built when it has room again', async (t) => {
    // Whatever failed once was left out until the next start, and 64 failures ended building for all groups.
    const site = await JournalSite.create(t);
    await site.parts.runs.close();
    await site.write(70);
    const { catalog, store, log } = site.parts;
    let tries = 0;
    const buildRun = (segment, file) => {
        tries += 1;
        if (tries > 1)
            return native.buildRun(segment, file);
        return Promise.reject(new AfterimageError('IO_ERROR', 'no space left on device'));
    };
    const round = async () => {
        runs.wake();
        while (runs.isBusy)
            await new Promise(setImmediate);
    };
    const runs = new RunBuilds({ catalog, store, log, buildRun });
    await round();
    t.equal(tries, 1, 'once a round');
    t.same(await site.files('.run'), []);
    await round();
    t.equal((await site.files('.run')).length, 1);
});
//# sourceMappingURL=runs.test.js.map