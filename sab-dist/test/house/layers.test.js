import path from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { breaches, sources } from './layers.js';
const ROOT = path.join(path.dirname(fileURLToPath(import.meta.url)), '../../..');
t.test('imports run downwards', (t) => {
    const files = sources(ROOT);
    t.ok(files.size > 100, `${files.size} sources`);
    t.ok(files.has('test/replay/replay.ts'), 'the independent replay is among them');
    t.same(breaches(files), []);
    t.end();
});
t.test('a breach is found, however the import is written', (t) => {
    const found = breaches(new Map([
        ['agent/a.ts', "import type { B } from '../receiver/b.js';\nimport { c } from './c.js';"],
        [
            'receiver/x/y.ts',
            "const z = await import('../../agent/z.js');\nexport * from '../../proto/errors.js';",
        ],
        ['service/s.ts', "import '../native/index.js';\nimport fs from 'node:fs';"],
        ['native/journal/run.cc', '#include <napi.h>\n#include "journal/run.h"'],
        ['native/binding/addon.cc', '#include <napi.h>'],
        ['cli/a.ts', "import { a } from '../agent/a.js';\nimport { t } from '../test/t.js';"],
        ['test/replay/a.ts', "import t from 'tap';\nimport fs from 'node:fs';\nimport { b } from './b.js';"],
        ['test/replay/c.ts', "import { crc } from '../../native/index.js';\nconst l = require('lz4');"],
        ['test/replay/d.ts', "import type { E } from '../../proto/errors.js';\nimport './../sim/random.js';"],
        ['test/sim/f.ts', "import { g } from '../../agent/g.js';"],
    ]));
    t.same(found.map(({ file, imported }) => `${file}: ${imported}`), [
        'agent/a.ts: receiver/b.js',
        'receiver/x/y.ts: agent/z.js',
        'service/s.ts: native/index.js',
        'native/journal/run.cc: #include <napi.h>',
        'cli/a.ts: test/t.js',
        'test/replay/c.ts: native/index.js',
        'test/replay/c.ts: lz4',
        'test/replay/d.ts: proto/errors.js',
        'test/replay/d.ts: test/sim/random.js',
    ]);
    t.end();
});
//# sourceMappingURL=layers.test.js.map