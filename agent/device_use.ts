/** Who uses what production has: asked before a stop, and before the package is removed. */
import { stat } from 'node:fs/promises';
import type { DeviceUse } from '../proto/control.js';
import { toAfterimageError, type AfterimageError } from '../proto/errors.js';
import type { GroupConfig, VolumeConfig } from './config.js';

/** What production has of a volume, or waits for. */
export interface UsedVolume {
  readonly config: VolumeConfig;
  /** "": nothing, or nobody knows. */
  readonly attachedAs: string;
  /** Null: nobody. Errors: nobody knows whether somebody does. */
  presentUse(): Promise<string | null>;
}

/** Never rejects. */
export function deviceUses(group: string, volumes: readonly UsedVolume[]): Promise<DeviceUse[]> {
  return Promise.all(
    volumes.map(async (volume) => {
      const usedBy = await volume.presentUse().catch((thrown: unknown) => toAfterimageError(thrown).message);
      return { group, volume: volume.config.name, device: volume.attachedAs, usedBy: usedBy ?? '' };
    }),
  );
}

/**
 * Of a group that is not started, and that no predecessor had. `reason`: why it could not be; `isBegun`: nobody knows yet. Never
 * rejects.
 */
export function possibleUses(
  { name, volumes }: GroupConfig,
  reason: AfterimageError,
  isBegun: boolean,
): Promise<DeviceUse[]> {
  const unknown = volumes.filter((volume) => isBegun || mayBeUsed(volume, reason));
  const used = unknown.map((config) => ({
    config,
    attachedAs: '',
    presentUse: async () => {
      if (config.mapped !== null && !(await exists(config.mapped))) return null;
      throw reason;
    },
  }));
  return deviceUses(name, used);
}

/** Whether somebody may have its device all the same. */
function mayBeUsed({ mapped }: VolumeConfig, { code }: AfterimageError): boolean {
  // Production has the mapped device itself, and its I/O may wait for an agent.
  if (mapped !== null) return code !== 'VOLUME_NOT_INSERTED';
  return code === 'LOOP_BUSY' || code === 'NBD_BUSY';
}

async function exists(file: string): Promise<boolean> {
  try {
    await stat(file);
    return true;
  } catch (thrown) {
    return (thrown as NodeJS.ErrnoException).code !== 'ENOENT';
  }
}
