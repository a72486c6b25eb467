/** Of the store's layout (store.ts): an older one is migrated at the receiver's start, a newer one refused. */
export const STORE_VERSION = 1;
