import { realpath } from 'node:fs/promises';
import path from 'node:path';

/** Whether `file`, absolute, which need not be there, lies below a directory, wherever symbolic links on the way lead to. */
export async function liesBelow(file: string, directory: string): Promise<boolean> {
  try {
    const above = await realpath(directory);
    const target = path.join(await realpath(path.dirname(file)), path.basename(file));
    const real = await realpath(target).catch((error: NodeJS.ErrnoException) => {
      // (A dangling link is none that leads there either.)
      if (error.code === 'ENOENT') return target;
      throw error;
    });
    return real.startsWith(`${above}${path.sep}`);
  } catch {
    return false;
  }
}
