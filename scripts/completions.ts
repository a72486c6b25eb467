/** Completion of the command for bash, zsh and fish, from the command itself. */
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Command } from 'commander';
import { describedCommand } from '../cli/description.js';

/** The words that may follow, by the words before: "afterimage receiver" → init, run, … */
interface Node {
  words: string[];
  verbs: { name: string; description: string }[];
  options: { long: string; description: string; choices: readonly string[]; takesFile: boolean }[];
}

/** Writes them below `directory`, where packages have them; returns their paths. */
export function writeCompletions(directory: string): string[] {
  const nodes = nodesOf(describedCommand('0'), ['afterimage']);
  const files = {
    'bash-completion/completions/afterimage': bash(nodes),
    'zsh/vendor-completions/_afterimage': zsh(nodes),
    'fish/vendor_completions.d/afterimage.fish': fish(nodes),
  };
  return Object.entries(files).map(([name, text]) => {
    const file = path.join(directory, name);
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, text);
    return file;
  });
}

function nodesOf(command: Command, words: string[]): Node[] {
  const options = [...command.options].map(({ long, description, argChoices, flags }) => ({
    long: long ?? '',
    description,
    choices: argChoices ?? [],
    takesFile: /<(file|path|directory|target)>/.test(flags),
  }));
  const verbs = command.commands.map((one) => ({ name: one.name(), description: one.description() }));
  const help = { long: '--help', description: 'display help', choices: [], takesFile: false };
  const here = { words, verbs, options: [...options, help] };
  return [here, ...command.commands.flatMap((one) => nodesOf(one, [...words, one.name()]))];
}

function bash(nodes: readonly Node[]): string {
  const cases = nodes.map(({ words, verbs, options }) => {
    const next = [...verbs.map(({ name }) => name), ...options.map(({ long }) => long)].join(' ');
    return `    '${words.join(' ')}') next='${next}' ;;`;
  });
  const values = [...new Map(nodes.flatMap(({ options }) => options).map((one) => [one.long, one])).values()];
  const choices = values
    .filter(({ choices }) => choices.length > 0)
    .map(
      ({ long, choices }) =>
        `    ${long}) COMPREPLY=($(compgen -W '${choices.join(' ')}' -- "$cur")); return ;;`,
    );
  const files = values.filter(({ takesFile }) => takesFile).map(({ long }) => long);
  return `# Completion of afterimage(1) for bash.
_afterimage() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD-1]} path=afterimage next= word
  case $prev in
    ${files.join('|')}) COMPREPLY=($(compgen -f -- "$cur")); return ;;
${choices.join('\n')}
  esac
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$path $word" in
      ${nodes
        .slice(1)
        .map(({ words }) => `'${words.join(' ')}'`)
        .join('|')}) path="$path $word" ;;
    esac
  done
  case $path in
${cases.join('\n')}
  esac
  COMPREPLY=($(compgen -W "$next" -- "$cur"))
}
complete -F _afterimage afterimage
`;
}

function zsh(nodes: readonly Node[]): string {
  const quoted = (text: string): string => text.replaceAll("'", "'\\''").replaceAll(':', '\\:');
  const cases = nodes.map(({ words, verbs, options }) => {
    const next = [
      ...verbs.map(({ name, description }) => `'${name}:${quoted(description)}'`),
      ...options.map(({ long, description }) => `'${long}:${quoted(description)}'`),
    ];
    return `    '${words.join(' ')}') next=(${next.join(' ')}) ;;`;
  });
  return `#compdef afterimage
# Completion of afterimage(1) for zsh.
local path_='afterimage' word
local -a next
for word in "\${(@)words[2,CURRENT-1]}"; do
  case "$path_ $word" in
    ${nodes
      .slice(1)
      .map(({ words }) => `'${words.join(' ')}'`)
      .join('|')}) path_="$path_ $word" ;;
  esac
done
case $path_ in
${cases.join('\n')}
esac
_describe 'afterimage' next
_files
`;
}

function fish(nodes: readonly Node[]): string {
  const quoted = (text: string): string => text.replaceAll('\\', '\\\\').replaceAll("'", "\\'");
  const lines = nodes.flatMap(({ words, verbs, options }) => {
    const at = `__afterimage_at ${words.slice(1).join(' ')}`.trim();
    return [
      ...verbs.map(
        ({ name, description }) =>
          `complete -c afterimage -f -n '${at}' -a ${name} -d '${quoted(description)}'`,
      ),
      ...options.map(({ long, description, choices, takesFile }) => {
        const values = choices.length > 0 ? ` -xa '${choices.join(' ')}'` : takesFile ? ' -rF' : '';
        return `complete -c afterimage -n '${at}' -l ${long.slice(2)}${values} -d '${quoted(description)}'`;
      }),
    ];
  });
  return `# Completion of afterimage(1) for fish.
# Whether the words so far, without options, are just these.
function __afterimage_at
    set -l words (string match -v -- '-*' (commandline -opc))
    set -l before $words[2..-1]
    test (count $before) -ge (count $argv); or return 1
    test "$before[1..(count $argv)]" = "$argv"; or test (count $argv) -eq 0
end
${lines.join('\n')}
`;
}
