/** What is wrong with a configuration that is read again changes nothing; what waits is named. */
import t from 'tap';
import type { AgentConfig } from '../../agent/config.js';
import type { Reloaded } from '../../agent/groups.js';
import { Reload } from '../../agent/reload.js';
import { AfterimageError } from '../../proto/errors.js';
import { createLog } from '../../service/log.js';

const CONFIG = {
  stateDir: '/a',
  groups: [{ name: 'shop', spool: null, volumes: [] }],
  logLevel: 'info',
} as unknown as AgentConfig;
const NONE: Reloaded = {
  added: [],
  returning: [],
  removed: [],
  held: [],
  reshaped: [],
  refused: [],
  changed: [],
};

function scene(next: () => Promise<AgentConfig>, outcome: Reloaded = NONE) {
  const lines: { level: string; msg: string; [key: string]: unknown }[] = [];
  const told: string[] = [];
  const taken: unknown[] = [];
  const groups = {
    reload: (configs: unknown) => {
      taken.push(configs);
      return Promise.resolve(outcome);
    },
  };
  const log = createLog('agent', 'info', {
    write: (line) => void lines.push(JSON.parse(line) as (typeof lines)[number]),
  });
  return { reload: new Reload(next, CONFIG, groups, (text) => told.push(text), log), lines, told, taken };
}

t.test('a typo', async (t) => {
  const here = scene(() =>
    Promise.reject(new AfterimageError('CONFIG_INVALID', 'agent.toml:3: grup is not a setting')),
  );
  await here.reload.run();
  t.same(here.taken, []);
  t.match(here.lines, [{ level: 'error', code: 'CONFIG_INVALID', msg: /goes on as it was: agent.toml:3/ }]);
  t.same(here.told, ['RELOADING=1', 'READY=1'], 'the service manager is told that it is over');
});

t.test('groups come and go, and what else is new waits', async (t) => {
  const outcome = {
    ...NONE,
    added: [{ name: 'web', error: null }],
    removed: ['mail'],
    held: ['old'],
    reshaped: [{ name: 'wiki', added: ['more'], leaving: [], volumes: [] }],
    refused: [{ name: 'git', error: new AfterimageError('BACKING_MISSING', 'it is away') }],
    changed: ['shop'],
  };
  const groups = [{ name: 'web', spool: null, volumes: [] }] as unknown as AgentConfig['groups'];
  const here = scene(() => Promise.resolve({ ...CONFIG, stateDir: '/b', groups }), outcome);
  await Promise.all([here.reload.run(), here.reload.run()]);
  t.same(here.taken, [groups, groups], 'one after the other');
  const said = here.lines.map(({ level, group, settings }) => [level, group ?? settings]);
  const once = [
    ['info', 'web'],
    ['info', 'mail'],
    ['warn', 'old'],
    ['info', 'wiki'],
    ['error', 'git'],
    ['warn', 'shop'],
    ['warn', ['stateDir']],
    ['info', undefined],
  ];
  t.same(said, [...once, ...once]);
});
