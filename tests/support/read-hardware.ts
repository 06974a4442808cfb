// Reads the machine in the folder that is named until it tells two cards, a few times at most, and ends without closing anything.
import { openHardware } from '../../adapters/hardware/index.ts';

const hardware = openHardware({ root: process.argv.at(-1)! });
hardware.start();
let reading = await hardware.read();
for (let left = 4; left > 0 && reading.cards.length < 2; left--) reading = await hardware.read(0);
const { cards, why } = reading;
console.log(JSON.stringify({ cards: cards.map(({ name, vram }) => [name, vram.used]), why }));
