// The SQLite store: what every store must do.
import { testStore } from '../conformance/store.ts';
import { factories } from '../support/store-cases-factories.ts';

testStore('sqlite', factories.sqlite);
