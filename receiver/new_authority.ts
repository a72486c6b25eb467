/**
 * Another authority for a store, when its own was lost or is known to somebody: nobody who has joined is let in any more, until
 * they join again. Of history nothing changes. No receiver may run on the store.
 */
import { rename } from 'node:fs/promises';
import { AuditLog } from '../service/audit_log.js';
import { localSelf } from '../service/local_caller.js';
import { createLog } from '../service/log.js';
import { systemError } from '../service/system_errors.js';
import { Authority } from './authority.js';
import { Catalog } from './catalog/catalog.js';
import { isThere, Store, type LockFile } from './store.js';

export interface AuthorityReplacement {
  /** Hosts and operators that have joined and were not revoked. */
  hosts: number;
  operators: number;
}

/**
 * `confirm` is asked before anything is changed, and rejects to leave it so. The old one is kept beside it, as `authority.pem.old`.
 * Errors: those of Store.open and Catalog.open, PERMISSION_DENIED, DISK_FULL, IO_ERROR.
 */
export async function replaceAuthority(
  directory: string,
  lock: LockFile,
  confirm: (replacement: AuthorityReplacement) => Promise<void>,
): Promise<Authority> {
  const store = await Store.open(directory, lock);
  try {
    const catalog = Catalog.open(store.catalogFile);
    try {
      const joined = [...catalog.identities.all('host'), ...catalog.identities.all('operator')].filter(
        ({ revokedNs }) => revokedNs === null,
      );
      const hosts = joined.filter(({ kind }) => kind === 'host').length;
      await confirm({ hosts, operators: joined.length - hosts });
      const authority = await Authority.generate(store.uuid);
      // First of all: whatever happens then, nobody is let in by what the old one has signed.
      catalog.atomically(() => {
        const nowNs = BigInt(Date.now()) * 1_000_000n;
        for (const { uuid } of joined) catalog.identities.revoke(uuid, nowNs);
        for (const { id } of catalog.tokens.all()) catalog.tokens.delete(id);
      });
      if (await isThere(store.authorityFile))
        await rename(store.authorityFile, `${store.authorityFile}.old`).catch((thrown: unknown) => {
          throw systemError(thrown, store.authorityFile);
        });
      await authority.write(store.authorityFile);
      const audit = new AuditLog(store.auditFile, createLog('receiver', 'error'));
      await audit.write({ who: localSelf(), what: 'receiver init --new-authority', with: {}, outcome: 'ok' });
      await audit.close();
      return authority;
    } finally {
      catalog.close();
    }
  } finally {
    store.close();
  }
}
