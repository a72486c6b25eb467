import path from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { breaches, sources } from './layers.js';

const ROOT = path.join(path.dirname(fileURLToPath(import.meta.url)), '../../..');

t.test('imports run downwards', (t) => {
  const files = sources(ROOT);
  t.ok(files.size > 100, `${files.size} sources`);
  t.same(breaches(files), []);
  t.end();
});

t.test('a breach is found, however the import is written', (t) => {
  const found = breaches(
    new Map([
      ['agent/a.ts', "import type { B } from '../receiver/b.js';\nimport { c } from './c.js';"],
      [
        'receiver/x/y.ts',
        "const z = await import('../../agent/z.js');\nexport * from '../../proto/errors.js';",
      ],
      ['service/s.ts', "import '../native/index.js';\nimport fs from 'node:fs';"],
      ['native/journal/run.cc', '#include <napi.h>\n#include "journal/run.h"'],
      ['native/binding/addon.cc', '#include <napi.h>'],
      ['cli/a.ts', "import { a } from '../agent/a.js';\nimport { t } from '../test/t.js';"],
    ]),
  );
  t.same(
    found.map(({ file, imported }) => `${file}: ${imported}`),
    [
      'agent/a.ts: receiver/b.js',
      'receiver/x/y.ts: agent/z.js',
      'service/s.ts: native/index.js',
      'native/journal/run.cc: #include <napi.h>',
      'cli/a.ts: test/t.js',
    ],
  );
  t.end();
});
