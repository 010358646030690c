// Package emv is the vocabulary of chip cards: BER-TLV (EMV 4.3 book 3, annex B), the data elements that a payment needs, by name, and
// data element 55 of ISO 8583, which carries them to the issuer and its answer back.
//
// Chip data holds card numbers and cryptograms. Data, List and Object keep their bytes in closures, which no printer can look into; what
// people may see comes from Describe.
package emv
