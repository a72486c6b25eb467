/**
 * Symptom: production waited for the successor of a dead agent while that loaded the whole command, the library that reads
 * configurations and gRPC: twice as long as for all else. What is loaded before a successor serves is little.
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';

const DIST = path.join(path.dirname(fileURLToPath(import.meta.url)), '../..');
/** Of compiled modules, which import no types. */
const STATIC_IMPORT = /^(?:import|export)\s(?:[^'";]*\sfrom\s)?'([^']+)';/gm;

/** All that is loaded with `module`, in the end: modules of ours by their path, others by their name. */
function loadedWith(module: string, loaded = new Set<string>()): Set<string> {
  if (loaded.has(module)) return loaded;
  loaded.add(module);
  const text = readFileSync(path.join(DIST, module), 'utf8');
  for (const [, specifier = ''] of text.matchAll(STATIC_IMPORT)) {
    if (specifier.startsWith('.')) loadedWith(path.posix.join(path.posix.dirname(module), specifier), loaded);
    else loaded.add(specifier);
  }
  return loaded;
}

const foreign = (loaded: ReadonlySet<string>): string[] =>
  [...loaded].filter((name) => !name.startsWith('node:') && !name.endsWith('.js'));

t.test('what a successor loads before it serves', (t) => {
  const loaded = loadedWith('agent/succession.js');
  t.ok(loaded.has('agent/loop_attachment.js'), 'the walk finds what is imported by what is imported');
  t.same(foreign(loaded), ['pino']);
  const others = ['agent/config.js', 'agent/state.js', 'agent/session.js', 'service/config.js'];
  t.same(
    others.filter((other) => loaded.has(other)),
    [],
    'no configuration, no state, no session',
  );
  t.end();
});

t.test('what the command loads before that', (t) => {
  const loaded = loadedWith('cli/main.js');
  t.same(foreign(loaded), []);
  t.same(
    [...loaded].filter((name) => /^(agent|receiver)\//.test(name)),
    [],
  );
  t.same(
    [...loaded].filter((name) => name.startsWith('cli/')),
    ['cli/main.js'],
  );
  t.end();
});
