/** Who uses what production has: asked before a stop, and before the package is removed. */
import type { DeviceUse } from '../proto/control.js';
import { toAfterimageError } from '../proto/errors.js';
import type { VolumeConfig } from './config.js';

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
